"""nearer report: runs -> one self-contained HTML page."""

from rich.console import Console

from nearer.configs.report import ReportConfig
from nearer.reporting.html.page import write_report


def main(config: ReportConfig, console: Console) -> None:
    """Write the page, and print its name."""
    out = config.out or config.runs[-1].parent / "report.html"
    console.print(f"report: {write_report(config.runs, out)}")
