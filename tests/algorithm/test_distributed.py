"""Two real processes train what one process trains."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from distributed_jobs import (
    SUMMATION_TOLERANCE,
    Job,
    RunJob,
    demonstrations,
    job_runner,
    sft_arguments,
    untrained_model,
)
from nearer.commands.collect import collect_demonstrations
from nearer.configs.collect import CollectConfig
from nearer.models.factory import build_model
from nearer.models.mlp import MLP
from nearer.models.vlm.vlm import VLM
from nearer.runs.checkpoint import load_model
from nearer.runs.metrics import read_metrics
from tiny_vlms import make_vlm


@pytest.fixture(scope="module")
def run_job() -> Iterator[RunJob]:
    with job_runner() as run:
        yield run


@pytest.fixture(scope="module")
def one_process_run(
    run_job: RunJob, stage_one: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return a run of one process that trains each batch in one part."""
    out = tmp_path_factory.mktemp("alone") / "run"
    done = run_job(Job(call="command_line", arguments=sft_arguments(stage_one, out), count=1))
    assert done.codes == [0], done.err
    return out


def assert_equal_runs(run: Path, expected_run: Path) -> None:
    """Check that two runs have the same metrics, links, weights and moments of the optimiser."""
    tolerance = SUMMATION_TOLERANCE
    for record, expected_record in zip(read_metrics(run), read_metrics(expected_run), strict=True):
        assert list(record) == list(expected_record)
        for name in record.keys() - {"time/elapsed_s"}:
            expected_value = pytest.approx(expected_record[name], rel=tolerance, abs=tolerance)
            assert record[name] == expected_value, name
    for link in ("policy", "reward", "last"):
        checkpoint, expected_checkpoint = (
            (folder / "checkpoints" / link).resolve() for folder in (run, expected_run)
        )
        assert checkpoint.name == expected_checkpoint.name
        names = ["pretrained_model/model", "training_state/optimizer_state"]
        for name in names if link == "last" else names[:1]:
            tensors, expected_tensors = (
                load_file(folder / f"{name}.safetensors")
                for folder in (checkpoint, expected_checkpoint)
            )
            assert tensors.keys() == expected_tensors.keys()
            # Adding a number to all scores changes nothing: its gradient is rounding alone.
            for key in tensors.keys() - {"instruction_head.bias"}:
                torch.testing.assert_close(
                    tensors[key], expected_tensors[key], rtol=tolerance, atol=tolerance
                )


@pytest.mark.parametrize(
    ("count", "flags"),
    [
        (1, ["--accumulate", "4"]),
        (2, ["--processes", "ddp"]),
        (2, ["--processes", "fsdp"]),
    ],
)
def test_sft_parts_or_processes_train_what_one_process_trains(
    count: int,
    flags: list[str],
    one_process_run: Path,
    run_job: RunJob,
    stage_one: Path,
    tmp_path: Path,
) -> None:
    arguments = sft_arguments(stage_one, tmp_path / "run", *flags)
    done = run_job(Job(call="command_line", arguments=arguments, count=count))
    assert done.codes == [0] * count, done.err
    assert_equal_runs(tmp_path / "run", one_process_run)
    assert done.out[0].count("Stage 1 is done") == 1
    assert not any(done.out[1:])  # only the first process reports
    for link in ("policy", "reward"):
        assert isinstance(load_model(tmp_path / "run", build_model, link), MLP)
    assert (tmp_path / "run/FINISHED").exists()


@pytest.mark.parametrize("adapt", ["full", "lora"])
def test_sft_vlm_in_two_processes_has_the_losses_of_one(
    adapt: str, run_job: RunJob, tmp_path: Path
) -> None:
    data = CollectConfig(
        env="nearer/TabletopBlock2Block-v0", out=tmp_path / "data", episodes=4, num_envs=4, seed=3
    )
    collect_demonstrations(data)
    arguments = [
        *("sft", "--data", str(data.out), "--model", str(make_vlm(tmp_path / "model", "qwen3_vl"))),
        *("--vlm.adapt", adapt, "--cache", str(tmp_path / "cache")),
        *("--updates", "6", "--batch-size", "8", "--validate-every", "2", "--warmup-updates", "1"),
    ]
    losses: dict[str, list[float]] = {}
    for kind, count in (("one", 1), ("ddp", 2), ("fsdp", 2)):
        out = tmp_path / kind
        more = ["--processes", kind, "--out", str(out)]
        done = run_job(Job(call="command_line", arguments=[*arguments, *more], count=count))
        assert done.codes == [0] * count, done.err
        losses[kind] = [
            record[f"sft/val_loss_{name}"]
            for record in read_metrics(out)
            for name in ("bc", "steps_to_go")
        ]
        assert isinstance(load_model(out, build_model, "last"), VLM)
    assert len(losses["one"]) == 6
    assert losses["one"][0] != losses["one"][-2], "nothing was learned"
    assert losses["ddp"] == pytest.approx(losses["one"], rel=SUMMATION_TOLERANCE)
    assert losses["fsdp"] == pytest.approx(losses["one"], rel=SUMMATION_TOLERANCE)


def test_sft_killed_process_resumes_with_other_processes(
    one_process_run: Path, run_job: RunJob, stage_one: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    resume = ["sft", "--resume", "--out", str(out)]
    start = sft_arguments(stage_one, out, "--processes", "fsdp")
    done = run_job(Job(call="command_line", arguments=start, ends="killed"))
    assert done.codes == [1, -signal.SIGKILL]
    assert done.error_lines == [
        "nearer: every process must live until the run ends, got one that ended without a word "
        "(killed, perhaps for want of memory); earlier checkpoints are unharmed, continue with "
        "--resume"
    ]
    ddp = [*resume, "--processes", "ddp"]
    done = run_job(Job(call="command_line", arguments=ddp, ends="interrupted"))
    assert sorted(done.codes) == [0, 130], done.err
    last = run_job(Job(call="command_line", arguments=[*resume, "--processes", "one"], count=1))
    assert last.codes == [0], last.err
    assert_equal_runs(out, one_process_run)


@pytest.mark.parametrize("name", ["blocks", "small-vla"])
def test_sft_blocks_or_dropout_two_processes_train_what_one_trains(
    name: str, run_job: RunJob, tmp_path: Path
) -> None:
    """Dropout of two processes with two parts each equals that of one process with four."""
    done = run_job(Job(call="train", arguments=[name, "one", "4", str(tmp_path / "one")], count=1))
    assert done.codes == [0], done.err
    for kind in ("ddp", "fsdp"):
        done = run_job(Job(call="train", arguments=[name, kind, "2", str(tmp_path / kind)]))
        assert done.codes == [0, 0], done.err
        assert_equal_runs(tmp_path / kind, tmp_path / "one")
    parameters = list(untrained_model(name, demonstrations()).parameters())
    total = sum(parameter.numel() for parameter in parameters)
    unsharded = sum(p.numel() for p in parameters if not p.ndim or not p.is_contiguous())
    numbers_kept = [int(text) for text in done.out]
    assert sum(numbers_kept) == total + unsharded  # with fsdp each process keeps its part alone
    assert max(numbers_kept) - unsharded < 0.6 * (total - unsharded)
