"""What a terminal shows while a command works."""

from rich.console import Console

from nearer.commands.progress_bars import live
from nearer.core.callbacks import Progress


def test_live_shows_a_bar_a_stage_with_its_latest_numbers() -> None:
    console = Console(width=80, record=True)
    with live(console) as on_progress:
        on_progress(Progress(stage="images", done=5, total=5))
        on_progress(Progress(stage="pretrain", done=1, total=4, values={"loss": "9.5"}))
        on_progress(Progress(stage="pretrain", done=3, total=4, values={"loss": "1.5", "lr": "2"}))
        on_progress(Progress(stage="pretrain", done=3, total=4))
    images, pretrain = [line for line in console.export_text().splitlines() if line.strip()]
    assert images.startswith("images ")
    assert "100%" in images
    assert "75%" in pretrain
    assert pretrain.rstrip().endswith("loss 1.5  lr 2")
    assert "9.5" not in pretrain
