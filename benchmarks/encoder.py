"""Time of the built-in vision encoder; the last line printed is one JSON object.

    python benchmarks/encoder.py [--rounds 40]

Both encoders in turn, on batches of four frames as the commands use them, one thread, CPU time;
medians over rounds. Keys: frame_ms; before_ms, of version 0.1's encoder with the same allocator
settings; over_before, the median of before / now; gflops, of a frame; gflops_share_of_peak, of the
rate at which this core multiplies matrices of 768 rows, measured in the same rounds.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, relu
from torch.utils.flop_counter import FlopCounterMode

from nearer.core.memory import keep_freed_memory
from nearer.models.pointing.pretraining.efficientnet_lite0 import CHANNELS, Lite0
from nearer.models.pointing.weights import load_pointing

FRAMES, MATRIX = 4, 768


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    tower, before = load_pointing(), FormerEncoder().eval().to(memory_format=torch.channels_last)
    images = torch.randint(0, 256, (FRAMES, 96, 128, 3), dtype=torch.uint8)
    matrix = torch.randn(MATRIX, MATRIX)
    timed: dict[str, Callable[[], object]] = {
        "now": lambda: tower.keys(images),
        "before": lambda: before(images),
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


class FormerEncoder(nn.Module):
    """Version 0.1's encoder, batch normalisation folded: a frozen trunk beside a stem."""

    def __init__(self, width: int = 64, fine: int = 24, middle: int = 64) -> None:
        super().__init__()
        self.trunk = Lite0()
        self.first = nn.Conv2d(3, fine, 5, 2, padding=2)
        self.second = nn.Conv2d(fine, fine, 3, padding=1)
        self.down = nn.Conv2d(fine, middle, 3, 2, padding=1)
        self.learned = nn.Conv2d(CHANNELS, middle, 1)
        self.around = nn.Conv2d(middle, 2 * middle, 3, padding=1)
        self.gather = nn.Conv2d(2 * middle, middle, 1)
        self.up = nn.Conv2d(middle, fine, 1)
        self.last = nn.Conv2d(fine, fine, 3, padding=1)
        self.key = nn.Conv2d(2 * fine, width, 1)
        self.norm = nn.LayerNorm(width)

    def forward(self, images: Tensor) -> Tensor:
        """Return normalised keys at stride 2."""
        hidden = (images.permute(0, 3, 1, 2).float() - 127) / 64
        hidden = hidden.contiguous(memory_format=torch.channels_last)
        fine = relu(self.second(relu(self.first(hidden))))
        middle = self.down(fine)
        middle = relu(middle + resized_like(self.learned(self.trunk(images)), middle))
        middle = relu(middle + self.gather(relu(self.around(middle))))
        fine = relu(fine + resized_like(self.up(middle), fine))
        keys = self.key(torch.cat([fine, relu(self.last(fine))], dim=1))
        return self.norm(keys.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def resized_like(maps: Tensor, like: Tensor) -> Tensor:
    return interpolate(maps, size=like.shape[2:], mode="bilinear", align_corners=False)


if __name__ == "__main__":
    main()
