"""Section of `accelerator.py` on two processes: the same Stage 1 as one, over nccl or gloo."""

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from time import sleep
from typing import Literal

import torch

from bench import Bench, Measurements, sentence
from nearer.algorithm.distributed import ONE, Processes, started
from nearer.algorithm.sft_settings import Kind
from nearer.core.errors import ReportedElsewhere
from nearer.models.settings import VLMConfig
from nearer.models.vlm.loading import open_source, pretrained_vlm
from nearer.runs.json_files import read_document, write_document
from random_vlms import SMOLVLM_256M, tiny, write_vlm
from sft_timing import SPACES, random_demonstrations, timed_sft

COUNT = 2
TOLERANCE = 1e-3
"""Of losses of two processes to those of one, relative: sums are taken in another order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What each process does.

    Attributes:
        kind: how they share the model.
        model: its folder.
        out: where what came of it is written.
        device: that they compute on, each on its own if there are several.
        batch_size: frames an objective and update, of all of them together.
        updates: an even number.
        port: where they meet.
    """

    kind: Kind
    model: Path
    out: Path
    device: Literal["cpu", "cuda"]
    batch_size: int
    updates: int
    port: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What came of a job: speed and losses of all its processes, or why one failed."""

    samples_per_s: float = 0.0
    losses: tuple[float, ...] = ()
    failed: str | None = None


def ranks(bench: Bench) -> Measurements:
    """Compare two processes, each with a device of its own, with one."""
    if bench.device.type == "cuda" and torch.cuda.device_count() < COUNT:
        yield "skipped", f"{COUNT} processes over nccl need as many devices, got one"
        return
    yield "backend", "nccl" if bench.device.type == "cuda" else "gloo"
    yield "tolerance", TOLERANCE
    shape = tiny(SMOLVLM_256M) if bench.tiny else SMOLVLM_256M
    job = Job(
        kind="one",
        model=write_vlm(shape, bench.scratch / "models" / "ranks", bench.device),
        out=bench.scratch,
        device="cuda" if bench.device.type == "cuda" else "cpu",
        batch_size=shape.batch_size,
        updates=2 if bench.tiny else 16,
    )
    alone = _trained(job, ONE)
    yield "one_samples_per_s", alone.samples_per_s
    kinds: tuple[Kind, ...] = ("ddp",) if bench.tiny else ("ddp", "fsdp")
    for kind in kinds:
        trained = _together(replace(job, kind=kind, port=_free_port()))
        pairs = zip(trained.losses, alone.losses, strict=True)
        difference = max(abs(a - b) / b for a, b in pairs)
        yield f"{kind}_samples_per_s", trained.samples_per_s
        yield f"{kind}_loss_difference", difference
        yield f"{kind}_agrees", difference <= TOLERANCE


def _together(job: Job) -> Trained:
    """Do the job in processes of their own and return what came of it."""
    job = replace(job, out=job.out / f"ranks_{job.kind}.json")
    job.out.unlink(missing_ok=True)
    # A server that has imported everything forks them; it has no threads, as this process may.
    context = get_context("forkserver")
    processes = [context.Process(target=_take_part, args=(job, rank)) for rank in range(COUNT)]
    try:
        for process in processes:
            process.start()
        _wait(processes)
    finally:
        for process in processes:
            process.kill()
    trained = read_document(Trained, job.out, "see stderr for why a process ended")
    if trained.failed:
        raise RuntimeError(f"{job.kind}: {trained.failed}")
    return trained


def _wait(processes: Sequence[BaseProcess]) -> None:
    """Wait until all have ended, or one has failed: the others would wait for it for a day."""
    while any(process.is_alive() for process in processes):
        if any(process.exitcode for process in processes):
            return
        sleep(0.05)


def _take_part(job: Job, rank: int) -> None:
    """Be one of the processes, as torchrun would start it."""
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(COUNT),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(job.port),
    }
    try:
        with started(job.kind) as processes:
            trained = _trained(job, processes)
            if processes.first:
                write_document(job.out, trained)
    except ReportedElsewhere:
        raise SystemExit(1) from None
    except Exception as error:
        write_document(job.out, Trained(failed=f"process {rank}: {sentence(error)}"))
        raise SystemExit(1) from error


def _trained(job: Job, processes: Processes) -> Trained:
    """Train as one of the processes."""
    settings = VLMConfig(device=job.device)
    source = open_source(str(job.model))
    model = pretrained_vlm(source, settings, SPACES, processes.sharded).eval()
    data = random_demonstrations(model, episodes=9, frames=5)
    samples_per_s, run = timed_sft(model, data, job.batch_size, job.updates, processes)
    return Trained(samples_per_s=samples_per_s, losses=tuple(run.losses()))


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
