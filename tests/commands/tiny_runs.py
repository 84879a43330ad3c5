"""Settings of runs so small that a test waits a second for one."""

from pathlib import Path

from nearer.cli import main

ENV_ID = "nearer/PointMass-v0"
TINY_SFT = ["--model", "mlp", "--mlp.hidden", "16", "--updates", "20", "--validate-every", "5"]
TINY_IMPROVE = [
    *("--env", ENV_ID, "--num-envs", "4", "--threshold", "20", "--max-steps", "30"),
    *("--updates-per-iteration", "2", "--batch-size", "32", "--max-env-steps", "600"),
    *("--block-iterations", "2", "--audit-every", "2", "--on-alarm", "continue"),
]  # fmt: skip
SHORT_IMPROVE = [
    *("--env", ENV_ID, "--num-envs", "4", "--threshold", "20", "--max-steps", "30"),
    *("--updates-per-iteration", "1", "--batch-size", "32", "--max-env-steps", "300"),
    *("--block-iterations", "1", "--audit-every", "1", "--on-alarm", "continue"),
]  # fmt: skip
"""For a test to which only matters that there is a practised policy."""


def improve_in(env: str, workspace: Path) -> Path:
    """Practise in an env of faulty_envs.py, nothing detected, and return the run's folder."""
    run = workspace / env
    start = ["improve", "--run", str(workspace / "sft"), "--out", str(run), *TINY_IMPROVE]
    main([*start, "--env", f"test/{env}-v0", "--threshold", "0.001"])
    return run
