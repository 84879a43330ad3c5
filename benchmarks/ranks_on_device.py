"""Section of `accelerator.py` on two processes: the same Stage 1 as one, over nccl or gloo.

    torchrun --nproc-per-node 2 benchmarks/ranks_on_device.py --model FOLDER --kind ddp --out FILE
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import torch

from bench import Bench, Measurements
from nearer.algorithm.distributed import started
from nearer.models.settings import VLMConfig
from nearer.models.vlm.loading import open_source, pretrained_vlm
from random_vlms import SMOLVLM_256M, tiny, write_vlm
from sft_timing import SPACES, random_demonstrations, timed_sft

TOLERANCE = 1e-3
"""Of losses of two processes to those of one, relative: sums are taken in another order."""


def ranks(bench: Bench) -> Measurements:
    """Compare two processes, each with a device of its own, with one."""
    if bench.device.type == "cuda" and torch.cuda.device_count() < 2:
        yield "skipped", "two processes over nccl need two devices, got one"
        return
    yield "backend", "nccl" if bench.device.type == "cuda" else "gloo"
    yield "tolerance", TOLERANCE
    shape = tiny(SMOLVLM_256M) if bench.tiny else SMOLVLM_256M
    folder = write_vlm(shape, bench.out / "models" / "ranks", bench.device)
    alone = _started(bench, folder, "one")
    yield "one_samples_per_s", alone["samples_per_s"]
    for kind in ("ddp",) if bench.tiny else ("ddp", "fsdp"):
        together = _started(bench, folder, kind)
        pairs = zip(together["losses"], alone["losses"], strict=True)
        difference = max(abs(a - b) / b for a, b in pairs)
        yield f"{kind}_samples_per_s", together["samples_per_s"]
        yield f"{kind}_loss_difference", difference
        yield f"{kind}_agrees", difference <= TOLERANCE


def _started(bench: Bench, folder: Path, kind: str) -> dict:
    """Run this file in one process or two and return what the first one measured."""
    out = bench.out / f"ranks_{kind}.json"
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [
        sys.executable, *([] if kind == "one" else torchrun), __file__, "--model", str(folder),
        "--kind", kind, "--out", str(out), "--device", bench.device.type,
        "--updates", "2" if bench.tiny else "16", "--batch-size", "4" if bench.tiny else "32",
    ]  # fmt: skip
    ran = subprocess.run(
        command, capture_output=True, text=True, timeout=max(1, bench.left_s), env=_environment()
    )
    if ran.returncode:
        raise RuntimeError(f"{kind}: {(ran.stderr.strip().splitlines() or ['no message'])[-1]}")
    return json.loads(out.read_text())


def _environment() -> dict[str, str]:
    """Return this process's environment, with a thread each where torchrun would warn of it."""
    return {"OMP_NUM_THREADS": "1", **os.environ}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder")
    parser.add_argument("--kind", choices=("one", "ddp", "fsdp"), required=True)
    parser.add_argument("--out", type=Path, required=True, help="JSON file")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--updates", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=32)
    options = parser.parse_args()
    settings = VLMConfig(precision="float32", device=options.device)
    with started(options.kind) as processes:
        model = pretrained_vlm(
            open_source(str(options.model)), settings, SPACES, processes.sharded
        ).eval()
        data = random_demonstrations(model, episodes=9, frames=5)
        rate, run = timed_sft(model, data, options.batch_size, options.updates, processes)
        if processes.first:
            measured = {"samples_per_s": rate, "losses": run.losses()}
            options.out.write_text(json.dumps(measured))


if __name__ == "__main__":
    main()
