"""Damaged files of runs, weights among them: every command that reads one works or says why not."""

import io
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from unittest.mock import patch

import numpy as np

from hostile_attempts import Attempts
from mutations import mutations
from nearer.cli import main
from nearer.evaluation.perception import ObjectErrors, WrongFrames
from nearer.evaluation.perception_document import (
    BelievedPoint,
    LocatedObject,
    Perception,
    PerceptionFrame,
    TruePoint,
    write_perception,
)
from nearer.runs.documents import EncodingTime, write_encoding_time

ENV_ID = "nearer/PointMass-v0"
_LAST = "checkpoints/last"
_PRETRAINED = "checkpoints/policy/pretrained_model"
_STEP = f"{_LAST}/training_state/training_step.json"
_MOMENTS = f"{_LAST}/training_state/optimizer_state.safetensors"
_TINY_SFT = ("--model", "mlp", "--mlp.hidden", "16", "--updates", "20", "--validate-every", "5")
_TINY_IMPROVE = (
    *("--env", ENV_ID, "--num-envs", "4", "--threshold", "20", "--max-steps", "30"),
    *("--updates-per-iteration", "2", "--batch-size", "32", "--max-env-steps", "600"),
    *("--block-iterations", "2", "--audit-every", "2", "--on-alarm", "continue"),
)  # fmt: skip

_NOT_OF_THIS_MACHINE = "192.0.2.1"
"""An address kept for documentation: `nearer serve` reads its run and cannot listen there."""

Command = Callable[[Path], list[str]]
"""A run's folder -> arguments of a command that reads it."""
Readers = Mapping[str, Mapping[str, Sequence[Command]]]
"""Run -> file of it -> commands that read it."""


def _report(run: Path) -> list[str]:
    return ["report", str(run), "--out", str(run.parent / "report.html")]


def _card(run: Path) -> list[str]:
    return ["card", str(run), "--name", "user/name"]


def _resume_sft(run: Path) -> list[str]:
    return ["sft", "--resume", "--out", str(run)]


def _resume_improve(run: Path) -> list[str]:
    return ["improve", "--resume", "--out", str(run), "--on-alarm", "continue"]


def _eval(run: Path) -> list[str]:
    sizes = ["--episodes", "2", "--num-envs", "2", "--max-steps", "3", "--videos", "0"]
    out = ["--out", str(run.parent / "evaluated")]
    return ["eval", "--checkpoint", str(run), "--env", ENV_ID, *sizes, *out]


def _compare(run: Path) -> list[str]:
    return [*_eval(run), "--against", str(run / "eval")]


def _label(run: Path) -> list[str]:
    data, out = run.parent / "data", run.parent / "labels.parquet"
    return ["label", str(data), "--model", str(run), "--out", str(out), "--overwrite"]


def _push(run: Path) -> list[str]:
    return ["push", str(run), "user/name"]  # the hub cannot be reached, see `damage_runs`


def _serve(run: Path) -> list[str]:
    return ["serve", "--checkpoint", str(run), "--host", _NOT_OF_THIS_MACHINE]


def _export(run: Path) -> list[str]:
    return ["export", str(run), "--out", str(run.parent / "run.rrd"), "--episodes", "1"]


def _improve(run: Path) -> list[str]:
    out = run.parent / "again"
    shutil.rmtree(out, ignore_errors=True)
    sizes = ["--max-env-steps", "40", "--batch-size", "4", "--max-steps", "5", "--threshold", "2"]
    return ["improve", "--run", str(run), "--out", str(out), *_TINY_IMPROVE, *sizes]


FILES: Readers = {
    "sft": {
        "run.json": (_report, _card, _resume_sft, _eval, _export, _push, _serve),
        "metrics.jsonl": (_report, _resume_sft),
        "demonstrations.json": (_report,),
        "encoding.json": (_report,),
        "calibration.json": (_report, _card, _label, _improve, _push, _serve),
        "split.json": (_resume_sft, _export),
        "eval/eval_info.json": (_report, _card, _compare, _push),
        "eval/rollouts.json": (_report,),
        "eval/perception.json": (_report,),
        "eval/perception.png": (_report,),
        "eval_reward/reward_report.json": (_report, _card, _push),
        _STEP: (_resume_sft,),
        f"{_PRETRAINED}/config.json": (_eval, _card, _label, _improve, _push, _serve),
    },
    "practice": {
        "run.json": (_report, _card, _resume_improve, _eval, _push, _serve),
        "metrics.jsonl": (_report, _card, _resume_improve),
        "audits.jsonl": (_report, _resume_improve),
        "trackers.json": (_resume_improve,),
        "practice/meta/info.json": (_resume_improve, _export),
        _STEP: (_resume_improve,),
        f"{_PRETRAINED}/config.json": (_report, _resume_improve, _serve),
    },
}
WEIGHTS: Readers = {
    "sft": {
        _MOMENTS: (_resume_sft,),
        f"{_LAST}/pretrained_model/model.safetensors": (_resume_sft,),
        f"{_PRETRAINED}/model.safetensors": (_eval, _card, _label, _improve, _push, _serve),
    },
    "practice": {
        _MOMENTS: (_resume_improve,),
        f"{_PRETRAINED}/model.safetensors": (_eval, _report, _resume_improve, _push),
    },
}


class _NoHub:
    """A hub that cannot be reached, at once."""

    def create_repo(self, *arguments: object, **settings: object) -> str:
        raise ConnectionError("no network")


_NEVER_WRONG = WrongFrames(wrong=0, frames=9, episodes=1, ci95=(0.0, 0.3))
_ERRORS = ObjectErrors(
    all=_NEVER_WRONG, covered=_NEVER_WRONG, near=_NEVER_WRONG, far=_NEVER_WRONG, median_mm=3.0
)
_LOCATED = LocatedObject(
    believed=BelievedPoint(0.25, 0.5, 0.9), true=TruePoint(0.5, 0.5), error_mm=30.0
)
_PERCEPTION = Perception(
    env=ENV_ID,
    episodes=1,
    first=_ERRORS,
    second=_ERRORS,
    height=12,
    width=16,
    frames=(
        PerceptionFrame(
            seed=1,
            instruction="push the red moon",
            step=0,
            rule="largest error",
            objects=(_LOCATED, None, _LOCATED),
        ),
    ),
)
"""As an evaluation from images leaves it."""


def make_runs(root: Path) -> Path:
    """Return a folder with data/ and both stages of a tiny run, to be continued and evaluated."""

    def run(*arguments: object) -> None:
        with redirect_stdout(io.StringIO()):
            main([str(argument) for argument in arguments])

    root.mkdir(parents=True, exist_ok=True)
    data, sft, practice = root / "data", root / "sft", root / "practice"
    run("collect", "--env", ENV_ID, "--episodes", 50, "--num-envs", 50, "--out", data)
    run("sft", "--data", data, "--out", sft, *_TINY_SFT)
    run(*_eval(sft), "--out", sft / "eval", "--max-steps", 30)
    measured = ("--rollouts", 8, "--rollout-steps", 30, "--baseline-updates", 0)
    run("eval-reward", "--checkpoint", sft, "--data", data, "--env", ENV_ID, *measured)
    write_encoding_time(sft, EncodingTime(seconds=3.0))  # as a run with a vision encoder
    write_perception(sft / "eval", _PERCEPTION, [np.zeros((12, 16, 3), np.uint8)])
    run("improve", "--run", sft, "--out", practice, *_TINY_IMPROVE)
    (practice / "trackers.json").write_text('{"ids": {"wandb": "1a2b"}}')
    for stage in (sft, practice):
        (stage / "FINISHED").unlink()
    return root


def damage_runs(runs: Path, files: Readers, cases: int, seed: int, scratch: Path) -> Attempts:
    """Return what became of so many cases: one file damaged, one command that reads it.

    Args:
        runs: as `make_runs` left them; they stay as they are.
        files: which are damaged, and who reads them.
        cases: how many, spread over the files.
        seed: of the damage; a case depends on seed and number alone.
        scratch: new folder for the damaged copies.
    """
    attempts = Attempts()
    kinds = [(run, file) for run, of_run in files.items() for file in of_run]
    scratch.mkdir(parents=True)
    (scratch / "data").symlink_to(runs / "data")
    for case in range(cases):
        run, file = kinds[case % len(kinds)]
        turn = case // len(kinds)
        readers = files[run][file]
        copy = Path(shutil.copytree(runs / run, scratch / run, symlinks=True))
        whole = (copy / file).read_bytes()
        damaged = next(mutations(whole, np.random.default_rng([seed, case])))
        (copy / file).write_bytes(damaged)
        command = readers[turn % len(readers)](copy)
        name = f"{run}/{file} case {case}, nearer {command[0]}"
        with patch("huggingface_hub.HfApi", _NoHub):
            attempts.command(name, command)
        shutil.rmtree(copy)
    return attempts
