"""Several processes end together, and one of them says why in one sentence."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from distributed_jobs import Job, RunJob, improve_arguments, job_runner, sft_arguments
from nearer.cli import main
from nearer.runs.metrics import number, read_metrics

LOST_PROCESS = "nearer: every process must live until the run ends"


@pytest.fixture(scope="module")
def run_job() -> Iterator[RunJob]:
    with job_runner() as run:
        yield run


def run_contents(run: Path) -> tuple[list[dict[str, Any]], bytes, bytes]:
    """Return metrics without times, weights and the state of the optimiser."""
    last = run / "checkpoints/last"
    records = [record | {"time/elapsed_s": 0} for record in read_metrics(run)]
    weights = (last / "pretrained_model/model.safetensors").read_bytes()
    return records, weights, (last / "training_state/optimizer_state.safetensors").read_bytes()


def test_sft_ctrl_c_in_one_process_ends_both_and_resumes_to_the_same_bits(
    run_job: RunJob, stage_one: Path, tmp_path: Path
) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    flags = ["--processes", "fsdp", "--accumulate", "2"]
    arguments = sft_arguments(stage_one, whole, *flags)
    assert run_job(Job(call="command_line", arguments=arguments)).codes == [0, 0]
    arguments = sft_arguments(stage_one, stopped, *flags)
    done = run_job(Job(call="command_line", arguments=arguments, ends="interrupted"))
    assert sorted(done.codes) == [0, 130]  # the process without output did not fail
    (sentence,) = done.error_lines
    match = re.fullmatch(
        "nearer: stopped by Ctrl-C, everything is written; continue with torchrun "
        "--nproc-per-node 2 -m -- nearer (.*)",
        sentence,
    )
    assert match
    done = run_job(Job(call="command_line", arguments=shlex.split(match[1])))
    assert done.codes == [0, 0], done.err
    assert run_contents(stopped) == run_contents(whole)


def test_sft_error_in_one_process_ends_both_and_is_reported_once(
    run_job: RunJob, stage_one: Path, tmp_path: Path
) -> None:
    ddp = ["--processes", "ddp"]
    arguments = sft_arguments(stage_one, tmp_path / "bug", *ddp)
    done = run_job(Job(call="command_line", arguments=arguments, ends="broken"))
    assert done.codes == [0, 1]
    assert done.err[1].endswith("RuntimeError: a bug\n")  # a bug keeps its traceback
    assert LOST_PROCESS not in done.err[0]
    for out, flags, message in [
        ("bug", ddp, "--out must be a new or empty folder, got .*/bug"),
        ("nan", [*ddp, "--learning-rate", "1e38"], "must be finite, got nan at update 8"),
        ("thin", [*ddp, "--accumulate", "16"], "for each of 32 parts .* got 30; lower --accum"),
        ("same", [*ddp, "--data", str(tmp_path)], "must hold meta/info.json|info.json"),
        ("flag", [], "--processes must be ddp or fsdp under torchrun, got one .* started 2"),
        ("rule", [*ddp, "--batch-size", "0"], "--batch-size must be 1 or more, got 0"),
    ]:
        arguments = sft_arguments(stage_one, tmp_path / out, *flags)
        done = run_job(Job(call="command_line", arguments=arguments))
        assert sorted(done.codes) == [0, 1], done.err
        assert re.search(message, " ".join(done.error_lines))
        assert "".join(done.err).count("nearer: ") == 1
    done = run_job(Job(call="command_line", arguments=["report", str(tmp_path)]))
    assert done.error_lines == [
        "nearer: torchrun must start nearer sft or nearer improve, got 2 processes; "
        "start this one without torchrun"
    ]


def test_improve_in_two_processes_learns_what_one_does(
    run_job: RunJob, stage_one: Path, tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert run_job(
        Job(call="command_line", arguments=improve_arguments(stage_one, one), count=1)
    ).codes == [0]
    arguments = improve_arguments(stage_one, two, "--processes", "ddp")
    done = run_job(Job(call="command_line", arguments=arguments))
    assert done.codes == [0, 0], done.err
    assert done.out[1] == ""
    alone, together = read_metrics(one), read_metrics(two)
    assert len(alone) == len(together) > 3
    for mine, other in zip(alone, together, strict=True):
        assert number(other["practice/loss"]) == pytest.approx(
            number(mine["practice/loss"]), rel=1e-3
        )
        assert other["practice/episodes"] == mine["practice/episodes"]
    weights = [
        load_file(run / "checkpoints/last/pretrained_model/model.safetensors") for run in (one, two)
    ]
    for name, values in weights[0].items():
        np.testing.assert_allclose(weights[1][name], values, atol=1e-5)


def test_improve_ends_with_a_process_that_is_killed_and_resumes_to_the_same_bits(
    run_job: RunJob, stage_one: Path, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    arguments = improve_arguments(stage_one, whole, "--processes", "ddp")
    assert run_job(Job(call="command_line", arguments=arguments)).codes == [0, 0]
    arguments = improve_arguments(stage_one, killed, "--processes", "ddp")
    done = run_job(Job(call="command_line", arguments=arguments, ends="killed"))
    assert done.codes == [1, -9]
    assert done.error_lines[-1].startswith(LOST_PROCESS)
    resume = ["improve", "--resume", "--out", str(killed), "--processes", "ddp"]
    done = run_job(Job(call="command_line", arguments=resume))
    assert done.codes == [0, 0], done.err
    assert run_contents(killed) == run_contents(whole)


def test_improve_refuses_processes_that_do_not_fit(
    run_job: RunJob, stage_one: Path, tmp_path: Path
) -> None:
    for flags, message in [
        ([], "--processes must be ddp under torchrun, got one where torchrun started 2"),
        (["--processes", "ddp", "--accumulate", "32"], "a sample or more for each of 64 parts"),
    ]:
        arguments = improve_arguments(stage_one, tmp_path / "refused", *flags)
        done = run_job(Job(call="command_line", arguments=arguments))
        assert sorted(done.codes) == [0, 1], done.err
        assert message in " ".join(done.error_lines)
        assert not (tmp_path / "refused").exists()


def test_sft_several_processes_without_torchrun_are_refused(
    stage_one: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(sft_arguments(stage_one, tmp_path / "run", "--processes", "fsdp"))
    assert "--processes must be one without torchrun, got fsdp; start it" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
