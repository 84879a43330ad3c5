"""What a terminal shows while a command works."""

from collections.abc import Generator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import (
    Progress as Bars,
)

from nearer.core.callbacks import Progress, ProgressCallback


@contextmanager
def live(console: Console) -> Generator[ProgressCallback, None, None]:
    """Show a bar a stage with the time left and its numbers; fits 80 columns."""
    columns = (
        TextColumn("{task.description:<14}"),
        BarColumn(bar_width=10),
        TaskProgressColumn(),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        TextColumn("{task.fields[values]}"),
    )
    with Bars(*columns, console=console) as bars:
        tasks: dict[str, TaskID] = {}

        def on_progress(progress: Progress) -> None:
            name = progress.stage
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=progress.total, values="")
            values = "  ".join(f"{key} {value}" for key, value in progress.values.items())
            bars.update(tasks[name], completed=progress.done, total=progress.total)
            if values:
                bars.update(tasks[name], values=values)

        yield on_progress
