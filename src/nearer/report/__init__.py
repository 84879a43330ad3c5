"""One self-contained HTML page about runs: `nearer report`."""
