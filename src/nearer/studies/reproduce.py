"""nearer reproduce: a result of the paper at our size."""

from rich.console import Console

from nearer.commands.progress_bars import live
from nearer.configs.reproduce import ReproduceConfig
from nearer.studies.headline import reproduce
from nearer.studies.headline_results import headline_table
from nearer.studies.pretraining_ablation import reproduce_pretraining
from nearer.studies.pretraining_results import pretraining_table


def main(config: ReproduceConfig, console: Console) -> None:
    """Run what is missing with progress bars, and print the table."""
    with live(console) as on_progress:
        if config.which == "headline":
            table = headline_table(reproduce(config, on_progress))
        else:
            table = pretraining_table(reproduce_pretraining(config, on_progress))
    console.print(table, soft_wrap=True, highlight=False)
