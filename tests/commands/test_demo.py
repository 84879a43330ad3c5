"""`nearer demo`: the recipe's commands one after the other, and what is printed at the end."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from document_values import evaluation
from nearer.cli import main
from nearer.evaluation.success import Evaluation
from nearer.runs.files import append_line
from nearer.studies import demo


class NotedCommands:
    """Notes which command ran with which config, in place of running it."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, Any]] = []

    def collect(self, config: Any, on_progress: object) -> None:
        self.ran.append(("collect", config))

    def sft(self, config: Any, on_progress: object) -> None:
        self.ran.append(("sft", config))

    def improve(self, config: Any, on_progress: object) -> None:
        self.ran.append(("improve", config))
        record = {"step": 1, "practice/episodes": 1200, "practice/env_steps": 20_000}
        append_line(config.out / "metrics.jsonl", record)

    def eval(self, config: Any, on_progress: object) -> Evaluation:
        self.ran.append(("eval", config))
        return evaluation(3 if config.checkpoint.name == "sft" else 9, 12)

    def report(self, runs: Sequence[Path], out: Path) -> Path:
        self.ran.append(("report", runs))
        return out


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> NotedCommands:
    noted = NotedCommands()
    for name, command in (
        ("collect_demonstrations", noted.collect),
        ("run_sft", noted.sft),
        ("run_eval", noted.eval),
        ("run_improve", noted.improve),
        ("write_report", noted.report),
    ):
        monkeypatch.setattr(demo, name, command)

    @contextmanager
    def evaluated_beside(config: Any) -> Generator[None]:
        yield  # what the process of its own left, load_or_run_eval reads

    monkeypatch.setattr(demo, "evaluated_beside", evaluated_beside)
    monkeypatch.setattr(demo, "load_or_run_eval", noted.eval)
    return noted


def test_demo_runs_both_stages_in_one_folder_and_prints_their_success(
    commands: NotedCommands, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "practice").mkdir()
    main(["demo", "point-mass", "--episodes", "70", "--seed", "5", "--out", str(tmp_path)])
    names = [name for name, _ in commands.ran]
    assert names == ["collect", "sft", "improve", "eval", "eval", "report"]
    collect, sft, improve, first, second, runs = [config for _, config in commands.ran]
    assert (collect.episodes, collect.seed, sft.training.seed) == (70, 5, 5)
    assert sft.data == str(collect.out)
    assert first.checkpoint == improve.run == sft.out
    assert second.checkpoint == improve.out
    assert (first.seed, first.episodes) == (second.seed, second.episodes), "the same test starts"
    assert runs == [sft.out, improve.out]
    stage_1, stage_2, paired, practice, report = capsys.readouterr().out.splitlines()[-5:]
    assert stage_1.startswith("Stage 1   success 0.250 [")
    assert stage_2.startswith("Stage 2   success 0.750 [")
    assert "6 starts solved by Stage 2 alone, 0 by Stage 1 alone" in paired
    assert "1,200 episodes, 20,000 env steps" in practice
    assert report == f"report    {tmp_path / 'report.html'}"
