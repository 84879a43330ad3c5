"""Two real processes (gloo) train what one would, end together, and say one sentence.

For speed, one process (`python test_processes.py`) imports nearer once and forks for every job.
"""

import importlib
import json
import os
import re
import shlex
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.distributed import TCPStore

from job_server import job_server
from nearer.algorithm import sft as loop
from nearer.algorithm.demonstrations import Candidates, Demonstrations, split_by_episode
from nearer.algorithm.distributed import started
from nearer.algorithm.model import FoundationModel
from nearer.algorithm.sft import sft, validate
from nearer.algorithm.sft_objectives import Objectives, Rows
from nearer.algorithm.sft_settings import Kind, SFTTraining
from nearer.algorithm.torchrun import started_as
from nearer.cli import main
from nearer.commands.collect import collect_demonstrations
from nearer.configs.collect import CollectConfig
from nearer.core.errors import ConfigError
from nearer.core.spaces import Camera, Spaces
from nearer.models.factory import build_model, new_model
from nearer.models.mlp import MLP
from nearer.models.settings import MLPConfig, SmallVLAConfig
from nearer.models.vlm.vlm import VLM
from nearer.runs.checkpoint import load_model
from nearer.runs.metrics import read_metrics
from nearer.runs.run import Run, SilentRun
from tiny_vlms import make_vlm

SUMMED = 2e-6
"""How far losses may differ, relatively, where sums are taken in another order; 2e-7 was seen."""
LOST = "nearer: every process must live until the run ends"
SPACES = Spaces(agent_pos=2, environment_state=0, action=2, cameras=(Camera("top", 96, 128),))
TINY = [
    *("--model", "mlp", "--mlp.hidden", "16", "--updates", "16", "--batch-size", "30"),
    *("--validate-every", "8", "--warmup-updates", "4"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What each of `count` processes does: a function of this file.

    Attributes:
        count: 1 for a process that torchrun did not start.
        ends: name of what befalls the last process after update 11, if anything does.
    """

    call: str
    arguments: Sequence[str]
    count: int = 2
    ends: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """How the processes of a job ended, in the order of their numbers."""

    codes: list[int]
    out: list[str]
    err: list[str]


RunJob = Callable[[Job], Finished]


@pytest.fixture(scope="module")
def run_job() -> Iterator[RunJob]:
    """Return a function that runs a job in processes of their own."""
    with job_server(__file__) as answer:
        yield lambda job: Finished(**answer(asdict(job)))


def serve() -> None:
    """Fork the processes of every job that is read from stdin."""
    for slow in ("torch._dynamo", "torch.distributed.fsdp", "peft", "accelerate"):
        importlib.import_module(slow)
    importlib.import_module("transformers.models.qwen3_vl.modeling_qwen3_vl")
    with tempfile.TemporaryDirectory() as folder:
        for line in sys.stdin:
            job = Job(**json.loads(line))
            # As torchrun does: the store outlives each of the processes.
            store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
            files = [Path(folder) / str(rank) for rank in range(job.count)]
            children = [_fork(job, rank, store.port, file) for rank, file in enumerate(files)]
            codes = [os.waitstatus_to_exitcode(os.waitpid(one, 0)[1]) for one in children]
            said = [[f.with_suffix(s).read_text() for f in files] for s in (".out", ".err")]
            print(json.dumps({"codes": codes, "out": said[0], "err": said[1]}), flush=True)


def _fork(job: Job, rank: int, port: int, file: Path) -> int:
    child = os.fork()
    if child:
        return child
    signal.alarm(40)  # nothing here waits for ever
    for number, suffix in ((1, ".out"), (2, ".err")):
        os.dup2(os.open(file.with_suffix(suffix), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    if job.count > 1:
        os.environ |= {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(job.count),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
        }
    if job.ends and rank == job.count - 1:
        _end_after_11(globals()[job.ends])
    code = 1
    try:
        globals()[job.call](*job.arguments)
        code = 0
    except SystemExit as left:
        code = int(left.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _end_after_11(end: Callable[[], None]) -> None:
    gradients = loop._gradients

    def ending(*arguments: Any) -> Any:
        if arguments[-1] == 11:
            end()
        return gradients(*arguments)

    loop._gradients = ending


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def interrupted() -> None:
    signal.raise_signal(signal.SIGINT)


def broken() -> None:
    raise RuntimeError("a bug")


def command_line(*arguments: str) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main(arguments)


def command(stage_one: Path, out: Path, *more: str) -> list[str]:
    return ["sft", "--data", str(stage_one / "data"), "--out", str(out), *TINY, *more]


@pytest.fixture(scope="module")
def alone(run_job: RunJob, stage_one: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of one process, in one part."""
    out = tmp_path_factory.mktemp("alone") / "run"
    done = run_job(Job(call="command_line", arguments=command(stage_one, out), count=1))
    assert done.codes == [0], done.err
    return out


def check_alike(run: Path, other: Path, tolerance: float = SUMMED) -> None:
    """Check metrics, links, weights and the optimiser's moments of two runs."""
    for mine, theirs in zip(read_metrics(run), read_metrics(other), strict=True):
        assert list(mine) == list(theirs)
        for name in mine.keys() - {"time/elapsed_s"}:
            assert mine[name] == pytest.approx(theirs[name], rel=tolerance, abs=tolerance), name
    for link in ("policy", "reward", "last"):
        last, expected = ((one / "checkpoints" / link).resolve() for one in (run, other))
        assert last.name == expected.name
        names = ["pretrained_model/model", "training_state/optimizer_state"]
        for name in names if link == "last" else names[:1]:
            tensors, known = (load_file(one / f"{name}.safetensors") for one in (last, expected))
            assert tensors.keys() == known.keys()
            # Adding a number to all scores changes nothing: its gradient is rounding alone.
            for key in tensors.keys() - {"instruction_head.bias"}:
                torch.testing.assert_close(tensors[key], known[key], rtol=tolerance, atol=tolerance)


def bits(run: Path) -> tuple[list[dict[str, Any]], bytes, bytes]:
    last = run / "checkpoints/last"
    records = [record | {"time/elapsed_s": 0} for record in read_metrics(run)]
    weights = (last / "pretrained_model/model.safetensors").read_bytes()
    return records, weights, (last / "training_state/optimizer_state.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("count", "flags"),
    [
        (1, ["--accumulate", "4"]),
        (2, ["--processes", "ddp"]),
        (2, ["--processes", "fsdp"]),
    ],
)
def test_it_trains_what_one_process_trains_in_one_part(
    count: int, flags: list[str], alone: Path, run_job: RunJob, stage_one: Path, tmp_path: Path
) -> None:
    arguments = command(stage_one, tmp_path / "run", *flags)
    done = run_job(Job(call="command_line", arguments=arguments, count=count))
    assert done.codes == [0] * count, done.err
    check_alike(tmp_path / "run", alone)
    assert done.out[0].count("Stage 1 is done") == 1
    assert not any(done.out[1:])  # the others show nothing
    for link in ("policy", "reward"):
        assert isinstance(load_model(tmp_path / "run", build_model, link), MLP)
    assert (tmp_path / "run/FINISHED").exists()


@pytest.mark.parametrize("adapt", ["full", "lora"])
def test_a_vision_language_model_trains_the_same(
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
    assert losses["ddp"] == pytest.approx(losses["one"], rel=SUMMED)
    assert losses["fsdp"] == pytest.approx(losses["one"], rel=SUMMED)


def test_killed_it_goes_on_with_other_processes(
    alone: Path, run_job: RunJob, stage_one: Path, tmp_path: Path
) -> None:
    out, again = tmp_path / "run", ["sft", "--resume", "--out", str(tmp_path / "run")]
    start = command(stage_one, out, "--processes", "fsdp")
    done = run_job(Job(call="command_line", arguments=start, ends="killed"))
    assert done.codes == [1, -signal.SIGKILL]
    assert sentences(done) == [f"{LOST}, got one that ended without a word (killed, perhaps for "
        "want of memory); earlier checkpoints are unharmed, continue with --resume"]  # fmt: skip
    ddp = [*again, "--processes", "ddp"]
    done = run_job(Job(call="command_line", arguments=ddp, ends="interrupted"))
    assert sorted(done.codes) == [0, 130], done.err
    last = run_job(Job(call="command_line", arguments=[*again, "--processes", "one"], count=1))
    assert last.codes == [0], last.err
    check_alike(out, alone)


def sentences(done: Finished) -> list[str]:
    """Return what was said on stderr by anyone, without what torch logs."""
    lines = "".join(done.err).splitlines()
    return [line for line in lines if line and not line.startswith("[")]


def test_ctrl_c_in_one_process_ends_both_and_says_how_to_resume_to_the_same_bits(
    run_job: RunJob, stage_one: Path, tmp_path: Path
) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    flags = ["--processes", "fsdp", "--accumulate", "2"]
    arguments = command(stage_one, whole, *flags)
    assert run_job(Job(call="command_line", arguments=arguments)).codes == [0, 0]
    arguments = command(stage_one, stopped, *flags)
    done = run_job(Job(call="command_line", arguments=arguments, ends="interrupted"))
    assert sorted(done.codes) == [0, 130]  # the silent one did not fail
    (sentence,) = sentences(done)
    said = re.fullmatch(
        "nearer: stopped by Ctrl-C, everything is written; continue with torchrun "
        "--nproc-per-node 2 -m nearer (.*)",
        sentence,
    )
    assert said
    done = run_job(Job(call="command_line", arguments=shlex.split(said[1])))
    assert done.codes == [0, 0], done.err
    assert bits(stopped) == bits(whole)


def test_what_one_process_cannot_do_ends_both_and_is_told_once(
    run_job: RunJob, stage_one: Path, tmp_path: Path
) -> None:
    ddp = ["--processes", "ddp"]
    arguments = command(stage_one, tmp_path / "bug", *ddp)
    done = run_job(Job(call="command_line", arguments=arguments, ends="broken"))
    assert done.codes == [0, 1]
    assert done.err[1].endswith("RuntimeError: a bug\n")  # a bug of ours keeps its traceback
    assert LOST not in done.err[0]
    for out, flags, told in [
        ("bug", ddp, "--out must be a new or empty folder, got .*/bug"),
        ("nan", [*ddp, "--learning-rate", "1e38"], "must be finite, got nan at update 8"),
        ("thin", [*ddp, "--accumulate", "16"], "for each of 32 parts .* got 30; lower --accum"),
        ("same", [*ddp, "--data", str(tmp_path)], "must hold meta/info.json|info.json"),
        ("flag", [], "--processes must be ddp or fsdp under torchrun, got one .* started 2"),
        ("rule", [*ddp, "--batch-size", "0"], "--batch-size must be 1 or more, got 0"),
    ]:
        arguments = command(stage_one, tmp_path / out, *flags)
        done = run_job(Job(call="command_line", arguments=arguments))
        assert sorted(done.codes) == [0, 1], done.err
        assert re.search(told, " ".join(sentences(done)))
        assert "".join(done.err).count("nearer: ") == 1
    done = run_job(Job(call="command_line", arguments=["report", str(tmp_path)]))
    assert sentences(done) == ["nearer: torchrun must start nearer sft and no other command, got 2 "
        "processes; start this one without torchrun"]  # fmt: skip


def test_several_processes_without_torchrun_are_refused(
    stage_one: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(command(stage_one, tmp_path / "run", "--processes", "fsdp"))
    assert "--processes must be one without torchrun, got fsdp; start it" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@given(
    sizes=st.lists(st.integers(1, 40), min_size=2, max_size=3),
    count=st.integers(1, 9),
    parts=st.integers(1, 9),
)
@settings(deadline=None)
def test_parts_hold_every_row_once(sizes: list[int], count: int, parts: int) -> None:
    cloned, labelled, *episodes = (torch.randint(100, (size,)) for size in sizes)
    rows = Rows(cloned=cloned, labelled=labelled, episodes=episodes[0] if episodes else None)
    if min(sizes) < count * parts:
        with pytest.raises(ConfigError, match=f"each of {count * parts} parts.*got {min(sizes)}"):
            rows.parts(count * parts)
        return
    split = rows.parts(count * parts)
    for name in ("cloned", "labelled", "episodes"):
        if getattr(rows, name) is not None:
            found = [getattr(part, name) for part in split]
            assert torch.equal(torch.cat(found), getattr(rows, name))
            lengths = {len(one) for one in found}
            assert 0 < min(lengths) <= max(lengths) <= min(lengths) + 1


def crowd() -> Demonstrations:
    """Episodes of three frames with three objectives, of random numbers."""
    draw = torch.Generator().manual_seed(0)
    asked = [f"push the {one} moon" for one in ("red", "blue", "green", "yellow")] * 10
    others = [tuple(dict.fromkeys([one, *asked]))[:3] for one in asked]
    seen = torch.rand(40, 2, 3, 9, generator=draw)
    return Demonstrations(
        state=torch.rand(120, 2, generator=draw),
        features=torch.rand(120, 9, generator=draw),
        actions=torch.rand(120, 2, generator=draw),
        steps_to_go=torch.tensor([2, 1, 0] * 40),
        episode_lengths=np.full(40, 3),
        instructions=tuple(asked),
        spaces=SPACES,
        candidates=Candidates(features=seen, instructions=tuple(others)),
    )


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.inside = nn.Linear(width, width)

    def forward(self, state: Tensor) -> Tensor:
        return state + self.inside(state).tanh()


class Blocks(MLP):
    """Both questions go through the same blocks."""

    def __init__(self) -> None:
        super().__init__(MLPConfig(hidden=16), SPACES)
        self.layers = nn.ModuleList(Block(2) for _ in range(3))

    @property
    def sharded_blocks(self) -> Sequence[nn.Module]:
        return tuple(self.layers)

    def _normalised(self, state: Tensor) -> Tensor:
        found = super()._normalised(state)
        for layer in self.layers:
            found = layer(found)
        return found


def model_of(name: str, data: Demonstrations) -> FoundationModel:
    torch.manual_seed(int(os.environ.get("RANK", "0")))  # others must take the first one's weights
    if name == "blocks":
        return Blocks()
    sizes = SmallVLAConfig(hidden=16, answers_instruction=True, dropout=0.5)
    model = new_model("small-vla", sizes, SPACES, data.instructions, seed=0)
    model.normalise_by(data.inputs(slice(None)), data.actions[data.acted_frames()])
    return model


def train(name: str, kind: Kind, accumulate: str, out: str) -> None:
    """Train a model of this file, a few updates, and write a run."""
    data = crowd()
    if name == "blocks":
        data = replace(data, candidates=None)
    model = model_of(name, data)
    training = SFTTraining(
        updates=8, validate_every=4, batch_size=48, accumulate=int(accumulate),
        warmup_updates=2, val_fraction=0.2,
    )  # fmt: skip
    split = split_by_episode(data, training.val_fraction, training.seed)
    with started(kind) as processes:
        if not processes.first:
            sft(
                training,
                *split,
                model,
                SilentRun(Path(out), started_as(processes.kind)),
                processes=processes,
            )
        else:
            with Run.create(Path(out), "sft", {}) as run:
                sft(training, *split, model, run, processes=processes)
        if kind == "fsdp":
            print(sum(_here(one).numel() for one in model.parameters()), end="")


def _here(parameter: Tensor) -> Tensor:
    """Return this process's part of a parameter."""
    return getattr(parameter, "to_local", lambda: parameter)()


@pytest.mark.parametrize("name", ["blocks", "small-vla"])
def test_blocks_and_dropout_and_three_objectives(
    name: str, run_job: RunJob, tmp_path: Path
) -> None:
    """Two processes of two parts leave out what one of four parts does."""
    done = run_job(Job(call="train", arguments=[name, "one", "4", str(tmp_path / "one")], count=1))
    assert done.codes == [0], done.err
    for kind in ("ddp", "fsdp"):
        done = run_job(Job(call="train", arguments=[name, kind, "2", str(tmp_path / kind)]))
        assert done.codes == [0, 0], done.err
        check_alike(tmp_path / kind, tmp_path / "one")
    parameters = list(model_of(name, crowd()).parameters())
    total = sum(one.numel() for one in parameters)
    whole = sum(one.numel() for one in parameters if not one.ndim or not one.is_contiguous())
    here = [int(text) for text in done.out]
    assert sum(here) == total + whole  # with fsdp each process keeps its part alone
    assert max(here) - whole < 0.6 * (total - whole)


class Counting(MLP):
    """Notes how many frames it is asked about at once."""

    most = 0

    def _normalised(self, state: Tensor) -> Tensor:
        self.most = max(self.most, len(state))
        return super()._normalised(state)


@pytest.mark.parametrize("accumulate", [1, 3, 12])
def test_more_parts_ask_about_fewer_frames_at_once(accumulate: int, tmp_path: Path) -> None:
    data = replace(crowd(), candidates=None)
    model = Counting(MLPConfig(hidden=8), SPACES)
    training = SFTTraining(updates=2, batch_size=36, accumulate=accumulate, val_fraction=0.5)
    with Run.create(tmp_path / "run", "sft", {}) as run:
        split = split_by_episode(data, training.val_fraction, training.seed)
        sft(training, *split, model, run)
    assert model.most == (60 if accumulate == 1 else 36 // accumulate)  # 60 are held out
    asked = Objectives(model)
    in_parts, at_once = validate(asked, data, rows_a_part=7), validate(asked, data)
    assert in_parts == pytest.approx(at_once, rel=SUMMED)


if __name__ == "__main__":
    serve()
