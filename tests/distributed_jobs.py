"""Training jobs in real processes (gloo), which tests of several processes start.

For speed, one process (`python distributed_jobs.py`) imports nearer once and forks for every job.
"""

import importlib
import json
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed import TCPStore

from commands.tiny_runs import TINY_IMPROVE
from job_server import job_server
from model_inputs import point_features
from nearer.algorithm.batch import Batch
from nearer.algorithm.demonstrations import Candidates, Demonstrations, split_by_episode
from nearer.algorithm.distributed import started
from nearer.algorithm.learner import Learner
from nearer.algorithm.model import FoundationModel, Inputs
from nearer.algorithm.sft import sft
from nearer.algorithm.sft_settings import Kind, SFTTraining
from nearer.algorithm.torchrun import started_as
from nearer.cli import main
from nearer.core.spaces import Camera, Spaces
from nearer.models.factory import new_model
from nearer.models.mlp import MLP
from nearer.models.settings import MLPConfig, SmallVLAConfig
from nearer.runs.run import Run, SilentRun

SUMMATION_TOLERANCE = 2e-6
"""How far losses may differ, relatively, where sums are taken in another order; 2e-7 occurs."""
SPACES = Spaces(agent_pos=2, environment_state=0, action=2, cameras=(Camera("top", 96, 128),))
SMALL_TRAINING_FLAGS = [
    *("--model", "mlp", "--mlp.hidden", "16", "--updates", "16", "--batch-size", "30"),
    *("--validate-every", "8", "--warmup-updates", "4"),
]
ENDING_UPDATE = 11
ENDING_ITERATION = 3
"""Before this update of Stage 1, or in this iteration of Stage 2, a job with `ends` ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What each of `count` processes does: a function of this file.

    Attributes:
        call: name of the function.
        arguments: of the function.
        count: 1 for a process that torchrun did not start.
        ends: name of the function that ends the last process before the run's end, if one does.
    """

    call: str
    arguments: Sequence[str]
    count: int = 2
    ends: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """Exit codes, stdout and stderr of a job's processes, in the order of their ranks."""

    codes: list[int]
    out: list[str]
    err: list[str]

    @property
    def error_lines(self) -> list[str]:
        """Return the lines that all processes wrote to stderr, without what torch logs."""
        lines = "".join(self.err).splitlines()
        return [line for line in lines if line and not line.startswith("[")]


RunJob = Callable[[Job], Finished]


@contextmanager
def job_runner() -> Iterator[RunJob]:
    """Give a function that runs a job in processes of its own."""
    with job_server(__file__) as answer:
        yield lambda job: Finished(**answer(asdict(job)))


def sft_arguments(stage_one: Path, out: Path, *more: str) -> list[str]:
    """Return the arguments of a small `nearer sft` on the demonstrations of `stage_one`."""
    data = str(stage_one / "data")
    return ["sft", "--data", data, "--out", str(out), *SMALL_TRAINING_FLAGS, *more]


def improve_arguments(stage_one: Path, out: Path, *more: str) -> list[str]:
    """Return the arguments of a small `nearer improve` of the policy of `stage_one`."""
    start = ["improve", "--run", str(stage_one / "sft"), "--out", str(out)]
    return [*start, *TINY_IMPROVE, "--accumulate", "2", *more]


def command_line(*arguments: str) -> None:
    """Run a command of nearer."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main(arguments)


def killed() -> None:
    """End the process as the kernel does when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def interrupted() -> None:
    """Press Ctrl-C."""
    signal.raise_signal(signal.SIGINT)


def broken() -> None:
    """Fail as a bug does."""
    raise RuntimeError("a bug")


def demonstrations() -> Demonstrations:
    """Return 40 episodes of three frames with candidates, of random numbers."""
    rng = torch.Generator().manual_seed(0)
    instructions = [f"push the {c} moon" for c in ("red", "blue", "green", "yellow")] * 10
    candidates = [tuple(dict.fromkeys([own, *instructions]))[:3] for own in instructions]
    candidate_features = point_features(torch.rand(40, 2, 3, 3, 2, generator=rng))
    return Demonstrations(
        state=torch.rand(120, 2, generator=rng),
        features=point_features(torch.rand(120, 3, 2, generator=rng)),
        actions=torch.rand(120, 2, generator=rng),
        steps_to_go=torch.tensor([2, 1, 0] * 40),
        episode_lengths=np.full(40, 3),
        instructions=tuple(instructions),
        spaces=SPACES,
        candidates=Candidates(features=candidate_features, instructions=tuple(candidates)),
    )


class ResidualBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, state: Tensor) -> Tensor:
        return state + self.linear(state).tanh()


class BlockModel(MLP):
    """An MLP behind three blocks, which both its answers share and fsdp shards one by one."""

    def __init__(self) -> None:
        super().__init__(MLPConfig(hidden=16), SPACES)
        self.blocks = nn.ModuleList(ResidualBlock(2) for _ in range(3))

    @property
    def sharded_blocks(self) -> Sequence[nn.Module]:
        return tuple(self.blocks)

    def log_prob(self, inputs: Inputs, actions: Tensor) -> Tensor:
        return super().log_prob(self._through_blocks(inputs), actions)

    def steps_to_go_logits(self, inputs: Inputs) -> Tensor:
        return super().steps_to_go_logits(self._through_blocks(inputs))

    def _through_blocks(self, inputs: Inputs) -> Inputs:
        state = inputs.state
        for block in self.blocks:
            state = block(state)
        return replace(inputs, state=state)


def untrained_model(name: str, data: Demonstrations) -> FoundationModel:
    """Return "blocks" or "small-vla" with weights that differ from process to process.

    Training must give all processes the weights of the first.
    """
    torch.manual_seed(int(os.environ.get("RANK", "0")))
    if name == "blocks":
        return BlockModel()
    sizes = SmallVLAConfig(hidden=16, instruction_objective=True, dropout=0.5)
    model = new_model("small-vla", sizes, SPACES, data.instructions, seed=0)
    model.normalise_by(data.inputs(slice(None)), data.actions[data.acted_frames()])
    return model


def train(name: str, kind: Kind, accumulate: str, out: str) -> None:
    """Train an `untrained_model` for a few updates and write a run.

    With fsdp, print how many numbers this process keeps.
    """
    data = demonstrations()
    if name == "blocks":
        data = replace(data, candidates=None)
    model = untrained_model(name, data)
    training = SFTTraining(
        updates=8, validate_every=4, batch_size=48, accumulate=int(accumulate),
        warmup_updates=2, val_fraction=0.2,
    )  # fmt: skip
    split = split_by_episode(data, training.val_fraction, training.seed)
    with started(kind) as processes:
        if processes.first:
            with Run.create(Path(out), "sft", {}) as run:
                sft(training, *split, model, run, processes=processes)
        else:
            silent_run = SilentRun(Path(out), started_as("sft", processes.kind))
            sft(training, *split, model, silent_run, processes=processes)
        if kind == "fsdp":
            print(sum(_local(parameter).numel() for parameter in model.parameters()), end="")


def _local(parameter: Tensor) -> Tensor:
    """Return this process's part of a parameter."""
    return getattr(parameter, "to_local", lambda: parameter)()


def _serve() -> None:
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
            codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
            out, err = ([f.with_suffix(s).read_text() for f in files] for s in (".out", ".err"))
            print(json.dumps({"codes": codes, "out": out, "err": err}), flush=True)


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
        _end_before_update_11(globals()[job.ends])
        _end_in_iteration_3(globals()[job.ends])
    code = 1
    try:
        globals()[job.call](*job.arguments)
        code = 0
    except SystemExit as error:
        code = int(error.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _end_before_update_11(end: Callable[[], None]) -> None:
    """Call `end` when training asks for the learning rate of update 11."""
    rate = SFTTraining.rate

    def rate_or_end(training: SFTTraining, update: int) -> float:
        if update == ENDING_UPDATE:
            end()
        return rate(training, update)

    SFTTraining.rate = rate_or_end


def _end_in_iteration_3(end: Callable[[], None]) -> None:
    """Call `end` when the process is to follow the updates of iteration 3."""
    learn = Learner._update_all

    def learn_or_end(learner: Learner, buffer: Batch, iteration: int) -> float:
        if iteration == ENDING_ITERATION:
            end()
        return learn(learner, buffer, iteration)

    Learner._update_all = learn_or_end


if __name__ == "__main__":
    _serve()
