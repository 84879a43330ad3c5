"""Time of the built-in vision encoder; the last line printed is one JSON object.

    python benchmarks/encoder.py [--rounds 40]

Both networks in turn, on batches of four frames as the commands use them, one thread, CPU time;
medians over rounds. Keys: frame_ms; before_ms, of the larger one, which was the default, with the
same allocator settings; over_before, the median of before / now; gflops, of a frame;
gflops_share_of_peak, of the rate at which this core multiplies matrices of 768 rows, measured in
the same rounds.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from nearer.core.memory import keep_freed_memory
from nearer.models.pointing.weights import LITE0, UNET, load_pointing

FRAMES, MATRIX = 4, 768


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tower, before = load_pointing(UNET), load_pointing(LITE0)
    images = torch.randint(0, 256, (FRAMES, 96, 128, 3), dtype=torch.uint8)
    matrix = torch.randn(MATRIX, MATRIX)
    timed: dict[str, Callable[[], object]] = {
        "now": lambda: tower.keys(images),
        "before": lambda: before.keys(images),
        "matrices": lambda: matrix @ matrix,
    }
    with torch.inference_mode():
        with FlopCounterMode(display=False) as counter:
            tower.keys(images)
        seconds = {name: [cpu_seconds(call)] for name, call in timed.items()}  # a warm-up
        for _ in range(options.rounds):
            for name, call in timed.items():
                seconds[name].append(cpu_seconds(call))
    now, former, matrices = (statistics.median(values[1:]) for values in seconds.values())
    ratios = [b / a for a, b in zip(seconds["now"][1:], seconds["before"][1:], strict=True)]
    gflops = counter.get_total_flops() / FRAMES / 1e9
    measured = {
        "frame_ms": 1e3 * now / FRAMES,
        "before_ms": 1e3 * former / FRAMES,
        "over_before": statistics.median(ratios),
        "gflops": gflops,
        "gflops_share_of_peak": gflops * FRAMES / now / (2 * MATRIX**3 / 1e9 / matrices),
    }
    print(json.dumps({name: round(value, 4) for name, value in measured.items()}))


def cpu_seconds(call: Callable[[], object]) -> float:
    started = time.process_time()
    call()
    return time.process_time() - started


if __name__ == "__main__":
    main()
