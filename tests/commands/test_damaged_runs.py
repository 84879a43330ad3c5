"""Every file of a run, damaged at random: each command works or says in one sentence what is wrong.

What it says names the file. Longer runs: DAMAGED_RUN_CASES=2000 pytest tests/commands/...
"""

import importlib.util
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from commands.faults import call_at_step, press_ctrl_c
from commands.tiny_runs import ENV_ID, TINY_IMPROVE, TINY_SFT
from nearer.cli import main

CASES = int(os.environ.get("DAMAGED_RUN_CASES", "4"))
"""Damages of each file, by each command that reads it."""
SEED = int(os.environ.get("DAMAGED_RUN_SEED", "0"))

LAST = "checkpoints/last"
PRETRAINED = "checkpoints/policy/pretrained_model"
STEP, MOMENTS = f"{LAST}/training_state/training_step.json", "optimizer_state.safetensors"


def report(run: Path) -> list[str]:
    return ["report", str(run), "--out", str(run.parent / "report.html")]


def card(run: Path) -> list[str]:
    return ["card", str(run), "--name", "user/name"]


def resume_sft(run: Path) -> list[str]:
    return ["sft", "--resume", "--out", str(run)]


def resume_improve(run: Path) -> list[str]:
    return ["improve", "--resume", "--out", str(run), "--on-alarm", "continue"]


def evaluate(run: Path) -> list[str]:
    sizes = ["--episodes", "2", "--num-envs", "2", "--max-steps", "3", "--videos", "0"]
    out = ["--out", str(run.parent / "evaluated")]
    return ["eval", "--checkpoint", str(run), "--env", ENV_ID, *sizes, *out]


def compare(run: Path) -> list[str]:
    return [*evaluate(run), "--against", str(run), "--seed", "0"]


def label(run: Path) -> list[str]:
    data, out = run.parent / "data", run.parent / "labels.parquet"
    return ["label", str(data), "--model", str(run), "--out", str(out), "--overwrite"]


def practise(run: Path) -> list[str]:
    out = run.parent / "again"
    shutil.rmtree(out, ignore_errors=True)
    return ["improve", "--run", str(run), "--out", str(out), *TINY_IMPROVE, "--max-steps", "10"]


Command = Callable[[Path], list[str]]
FILES: dict[str, dict[str, Sequence[Command]]] = {
    "sft": {
        "run.json": (report, card, resume_sft, evaluate),
        "metrics.jsonl": (report, resume_sft),
        "demonstrations.json": (report,),
        "calibration.json": (report, card, label),
        "split.json": (resume_sft,),
        "eval/eval_info.json": (report, card),
        "eval/rollouts.json": (report,),
        STEP: (resume_sft,),
        f"{LAST}/training_state/{MOMENTS}": (resume_sft,),
        f"{LAST}/pretrained_model/model.safetensors": (resume_sft,),
        f"{LAST}/pretrained_model/config.json": (resume_sft,),
        f"{PRETRAINED}/config.json": (evaluate, card, label),
        f"{PRETRAINED}/model.safetensors": (evaluate, card),
    },
    "practice": {
        "run.json": (report, card, resume_improve, evaluate),
        "metrics.jsonl": (report, card, resume_improve),
        "audits.jsonl": (report, resume_improve),
        "trackers.json": (resume_improve,),
        STEP: (resume_improve,),
        f"{LAST}/training_state/{MOMENTS}": (resume_improve,),
        f"{PRETRAINED}/config.json": (report, resume_improve),
    },
}
KINDS = [(run, file) for run, files in FILES.items() for file in files]


@pytest.fixture(scope="module")
def damaging() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "mutations.py"
    spec = importlib.util.spec_from_file_location("mutations", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def stopped_runs(stage_one: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with both stages, neither finished, the first one evaluated."""
    root = Path(
        shutil.copytree(stage_one, tmp_path_factory.mktemp("stopped") / "runs", symlinks=True)
    )
    main(["sft", "--data", str(root / "data"), "--out", str(root / "whole"), *TINY_SFT])
    main([*evaluate(root / "sft"), "--out", str(root / "sft/eval"), "--max-steps", "30"])
    with pytest.MonkeyPatch.context() as patch:
        call_at_step(patch, 50, press_ctrl_c)
        start = ["improve", "--run", str(root / "sft"), "--out", str(root / "practice")]
        with pytest.raises(SystemExit):
            main([*start, *TINY_IMPROVE])
    (root / "practice/trackers.json").write_text('{"ids": {"wandb": "1a2b"}}')
    (root / "sft/FINISHED").unlink()
    return root


@pytest.mark.parametrize(("run", "file"), KINDS, ids=["/".join(kind) for kind in KINDS])
def test_damaged_file_is_read_or_refused_in_one_sentence(
    run: str,
    file: str,
    stopped_runs: Path,
    damaging: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "data").symlink_to(stopped_runs / "data")
    whole = (stopped_runs / run / file).read_bytes()
    rng = np.random.default_rng([SEED, KINDS.index((run, file))])
    damages = damaging.mutations(whole, rng)
    wrong: list[str] = []
    for case in range(CASES):
        command = FILES[run][file][case % len(FILES[run][file])]
        copy = Path(shutil.copytree(stopped_runs / run, tmp_path / run, symlinks=True))
        damaged = next(damages)
        (copy / file).write_bytes(damaged)
        said = outcome(command(copy), capsys)
        shutil.rmtree(copy)
        if said is not None and not is_sentence(said):
            wrong.append(f"{command.__name__}: {said} of {damaged[:500]!r}")
    assert not wrong, "\n".join(wrong)


def is_sentence(said: str) -> bool:
    return said.startswith("nearer: ") and said.count("\n") == 1 and len(said) < 1500


def outcome(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str | None:
    """Return what a command says as it fails; None if it works."""
    capsys.readouterr()
    try:
        main(arguments)
    except SystemExit as left:
        said: Any = capsys.readouterr().err
        return said if left.code == 1 else None
    except Exception as error:
        return f"{type(error).__name__}: {error} at {last_line_of(error)}"
    return None


def last_line_of(error: Exception) -> str:
    """Return where in nearer an error came from."""
    trace, places = error.__traceback__, [""]
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if "/nearer/" in name:
            places.append(f"{Path(name).name}:{trace.tb_lineno}")
        trace = trace.tb_next
    return " < ".join(places[-1:-4:-1])
