"""nearer reproduce: the results of the paper at our size."""

from rich.console import Console

from nearer.commands.progress_bars import live
from nearer.configs.reproduce import ReproduceConfig
from nearer.studies.catalogue import chosen, listing, slowness
from nearer.studies.overview import write_overview


def main(config: ReproduceConfig, console: Console) -> None:
    """Say how long it takes, run what is missing with progress bars, and print the tables."""
    if config.list or config.which == "all":
        console.print(listing(config, slowness()), soft_wrap=True, highlight=False)
    if config.list:
        return
    for study in chosen(config):
        with live(console) as on_progress:
            table = study.run_by_seed(config, on_progress)
        write_overview(config.out)
        console.print(table, soft_wrap=True, highlight=False)
