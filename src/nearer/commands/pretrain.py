"""nearer pretrain: drawn scenes and captions -> weights of the built-in vision encoder."""

from rich.console import Console

from nearer.commands.progress_bars import live
from nearer.configs.pretrain import PretrainConfig
from nearer.models.pointing.pretraining.train import pretrain
from nearer.runs.lock import alone


def main(config: PretrainConfig, console: Console) -> None:
    """Pretrain with progress bars, and print where the weights are."""
    with alone(config.out), live(console) as on_progress:
        weights = pretrain(config, on_progress)
    console.print(f"the vision encoder is in {weights}", soft_wrap=True)
