"""What an accelerator gives nearer; the last line printed is one JSON object.

    python benchmarks/accelerator.py [--out FOLDER] [--minutes 9] [--sections a,b] [--tiny]

One command for one GPU, within ten minutes. Sections run one after the other, each within a time
of its own; FOLDER/accelerator.json is written after every measurement, so a kill loses nothing.
No network: vision-language models have the sizes of those on the hub and random weights, and are
read as `nearer sft --model FOLDER` reads them. --tiny: models of two layers, everything as small
as can be, on a CPU within a minute, to see that all of it works; its numbers say nothing.

Top level: device (the card's name), num_devices, torch, transformers, dtype (of arithmetic, except
where a key names another), tiny, minutes, peak_tflops (2 n^3 operations of a product of two
bfloat16 matrices of side peak_side, measured here), seconds. Then an object a section, with seconds
and, where it did not do all it should, a sentence: skipped, stopped (its time was over), failed,
PART_failed.

agreement, of a device with float32 on the CPU, for a SmolVLM of 256 M and a PaliGemma of full width
and two layers, in nats: MODEL_WAY_log_prob_difference and _loss_difference (largest over 12 frames;
the mean losses of both objectives), _loss_in_training_difference (of the sum of both objectives, at
the third and the sixth update of Stage 1). WAY: full_float32, full_bfloat16
(autocast), lora_bfloat16 (weights in bfloat16). tolerance_*; agrees (all within).

smolvlm_256m, smolvlm_2b, paligemma_3b: parameters_m; WAY_ is lora_ (frozen weights in bfloat16) or
full_ (float32 weights, bfloat16 autocast, AdamW on all but the tower):
WAY_decisions_per_s_N of N robots together: the new 96 x 128 image encoded, action (two tokens) and
steps-to-go in one pass; WAY_decisions_fraction_of_peak_N; WAY_decisions_memory_gib (weights and
all); generate_decisions_per_s_N: transformers' own generate() with bfloat16 weights, each question
of all robots in one call, two images a prompt; WAY_over_generate_N: how much faster nearer is;
WAY_encoded_frames_per_s; WAY_sft_samples_per_s (a frame with one of both prompts, batch_size of
each an update; encoded images, as cached); WAY_sft_fraction_of_peak; WAY_sft_memory_gib.
Fractions of peak: operations by torch's FlopCounterMode (products, attention, convolutions; forward
and backward), over seconds, over peak_tflops. Memory on a CPU: the process's resident peak.

ranks: two processes, nccl with two devices, gloo with --tiny: KIND_samples_per_s for one, ddp,
fsdp; KIND_loss_difference to one process, relative; tolerance; KIND_agrees.

stage_two: the tabletop with the built-in encoder on the device, and on the CPU:
PLACE_frames_per_s_N (N images encoded at once), PLACE_practice_env_steps_per_s (all of Stage 2,
64 tables; the small heads are on the CPU in both), PLACE_practice_env_steps;
peak_px_median_difference and peak_px_p99_difference between both.

pretraining: of the built-in encoder with ten times the images of the CPU's budget, or what fits:
device, times_cpu_budget, updates, batch_size, images, seconds_pretraining; the weights stay in
FOLDER/weights. shipped_KEY and new_KEY: the measures kept with both weights.
shipped_perception_KEY and new_perception_KEY: what benchmarks/perception.py measures of a policy
with each, 500 updates on 100 demonstrations, without self-training.
"""

import argparse
import json
import math
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic

import torch
import transformers

from bench import Bench, Measurements, Value, measure_within
from device_meter import matmul_flops_per_s
from nearer.runs.files import write_json
from random_vlms import SHAPES
from ranks_on_device import ranks
from vlm_on_device import agreement, speed

Results = dict[str, Value | dict[str, Value]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of the benchmark.

    Attributes:
        measure: yields its measurements.
        least_s: with less time than this left it is not begun.
        most_s: of nine minutes; it is stopped then. The last one takes what is left.
    """

    measure: Callable[[Bench], Measurements]
    least_s: float
    most_s: float


def on_tabletop(name: str, bench: Bench) -> Measurements:
    """Measure a section of the tabletop; its packages are only needed here."""
    import tabletop_on_device

    sections = {
        "stage_two": tabletop_on_device.stage_two,
        "pretraining": tabletop_on_device.pretraining,
    }
    yield from sections[name](bench)


SECTIONS: Mapping[str, Section] = {
    "agreement": Section(measure=agreement, least_s=15, most_s=60),
    **{
        name: Section(measure=partial(speed, name), least_s=20, most_s=most_s)
        for name, most_s in zip(SHAPES, (60, 90, 110), strict=True)
    },
    "ranks": Section(measure=ranks, least_s=20, most_s=90),
    "stage_two": Section(measure=partial(on_tabletop, "stage_two"), least_s=30, most_s=80),
    "pretraining": Section(
        measure=partial(on_tabletop, "pretraining"), least_s=60, most_s=math.inf
    ),
}
"""In the order in which they run."""


def main() -> None:
    options = _options()
    device = torch.device("cuda" if torch.cuda.is_available() and not options.tiny else "cpu")
    transformers.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        out = scratch / "out" if options.out is None else options.out
        out.mkdir(parents=True, exist_ok=True)
        os.environ["XDG_CACHE_HOME"] = str(scratch / "cache")
        results = run(options, device, out, scratch)
    print(json.dumps(results))


def run(options: argparse.Namespace, device: torch.device, out: Path, scratch: Path) -> Results:
    """Run the chosen sections and return what they measured; `out` has it too, at all times."""
    began = monotonic()
    ends = began + 60 * options.minutes
    side = 256 if options.tiny else 8192
    peak = matmul_flops_per_s(device, torch.bfloat16, side)
    results: Results = _setup(options, device) | {
        "peak_tflops": _rounded(peak / 1e12),
        "peak_side": side,
    }
    for name in options.sections:
        section, left_s = SECTIONS[name], ends - monotonic()
        measured: dict[str, Value] = {"seconds": 0.0}
        results[name] = measured
        if left_s < (0 if options.tiny else section.least_s):
            measured["skipped"] = f"{left_s:.0f} s are left, and it needs {section.least_s:.0f}"
            continue
        seconds = min(left_s, section.most_s * options.minutes / 9)
        bench = Bench(
            device=device,
            tiny=options.tiny,
            out=out,
            scratch=scratch,
            peak_flops_per_s=peak,
            ends_s=monotonic() + seconds,
        )
        keep = partial(_keep, results, measured, monotonic(), out)
        measure_within(seconds, section.measure(bench), keep)
        if device.type == "cuda":
            torch.cuda.empty_cache()
    results["seconds"] = round(monotonic() - began, 1)
    write_json(out / "accelerator.json", results)
    return results


def _keep(
    results: Results, section: dict[str, Value], started: float, out: Path, key: str, value: Value
) -> None:
    """Put a measurement into a section of the results, and all results into their file."""
    section[key] = _rounded(value)
    section["seconds"] = round(monotonic() - started, 1)
    write_json(out / "accelerator.json", results)


def _setup(options: argparse.Namespace, device: torch.device) -> Results:
    cuda = device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(device) if cuda else "cpu",
        "num_devices": torch.cuda.device_count() if cuda else 1,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "dtype": "bfloat16",
        "tiny": options.tiny,
        "minutes": options.minutes,
    }


def _rounded(value: Value) -> Value:
    """Return four significant digits; None for what JSON cannot say."""
    if isinstance(value, float):
        return float(f"{value:.4g}") if math.isfinite(value) else None
    return value


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="for weights and the JSON; none: nothing is kept")
    parser.add_argument("--minutes", type=float, default=9, help="in all")
    parser.add_argument("--sections", type=_names, default=tuple(SECTIONS), help="a,b,...")
    parser.add_argument("--tiny", action="store_true", help="as small as can be, on the CPU")
    options = parser.parse_args()
    if not options.tiny and not torch.cuda.is_available():
        parser.error("a GPU must be there, got none; pass --tiny to try everything on the CPU")
    return options


def _names(text: str) -> Sequence[str]:
    names = tuple(text.split(","))
    unknown = [name for name in names if name not in SECTIONS]
    if unknown:
        raise argparse.ArgumentTypeError(f"must be of {', '.join(SECTIONS)}, got {unknown[0]}")
    return names


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
