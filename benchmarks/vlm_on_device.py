"""Sections of `accelerator.py` on vision-language models: agreement with the CPU, and speed."""

import shutil
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForImageTextToText

from bench import Bench, Measurements, Value, attempt
from device_meter import PeakMemory, flops_of, seconds_a_call
from nearer.algorithm.demonstrations import Demonstrations
from nearer.algorithm.sft_objectives import Objectives, Rows, bc_loss, time_loss
from nearer.models.settings import VLMConfig
from nearer.models.vlm.loading import open_source, pretrained_vlm
from nearer.models.vlm.network_config import num_parameters
from nearer.models.vlm.vlm import VLM
from random_vlms import PALIGEMMA_3B, SHAPES, SMOLVLM_256M, VLMShape, tiny, write_vlm
from sft_timing import SPACES, random_demonstrations, timed_sft
from vlm import generate, instructions, ours

Adapt = Literal["full", "lora"]
TOLERANCE = {
    "float32_log_prob": 2e-3,
    "float32_loss": 1e-3,
    "float32_loss_in_training": 1e-2,
    "bfloat16_log_prob": 0.05,
    "bfloat16_loss": 0.02,
    "bfloat16_loss_in_training": 0.05,
}
"""Of differences to float32 on the CPU, in nats. bfloat16 keeps eight bits of a number: on a CPU it
moved log-probabilities of 30 layers of a SmolVLM of 256 M by up to 0.0034."""
_CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A way to compute that is compared with float32 on the CPU."""

    adapt: Adapt
    precision: Literal["float32", "bfloat16"]

    @property
    def name(self) -> str:
        """Return the name of the way in keys."""
        return f"{self.adapt}_{self.precision}"


VARIANTS = (
    Variant(adapt="full", precision="float32"),
    Variant(adapt="full", precision="bfloat16"),
    Variant(adapt="lora", precision="bfloat16"),
)


def agreement(bench: Bench) -> Measurements:
    """Compare log-probabilities, losses and training of a device with float32 on the CPU."""
    yield from ((f"tolerance_{name}", value) for name, value in TOLERANCE.items())
    shapes = {"smolvlm": SMOLVLM_256M, "paligemma": PALIGEMMA_3B.with_layers(2)}
    within: list[bool] = []
    for name, shape in shapes.items():
        small = tiny(shape) if bench.tiny else shape
        folder = write_vlm(small, bench.scratch / "models" / f"agreement_{name}", bench.device)
        with _exact_convolutions():
            for key, value in _compared(folder, bench.device):
                yield f"{name}_{key}", value
                within.append(_within(key, value))
    yield "agrees", all(within)


def _within(key: str, value: Value) -> bool:
    """Return whether a difference is within its tolerance; not if it is no number."""
    (limit,) = (TOLERANCE[kind] for kind in TOLERANCE if key.endswith(f"_{kind}_difference"))
    return float(value or 0) <= limit


@contextmanager
def _exact_convolutions() -> Generator[None, None, None]:
    """Compute convolutions in float32 in this block, which a GPU else rounds to TF32."""
    before, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def _compared(folder: Path, device: torch.device) -> Measurements:
    """Yield the differences of each variant on the device to float32 on the CPU."""
    reference = _load(folder, "full", "float32", _CPU)
    data = random_demonstrations(reference, episodes=3, frames=4)
    expected = _outputs(reference, data)
    _, run = timed_sft(reference, data, batch_size=4, updates=6)
    for variant in VARIANTS:
        model = _load(folder, variant.adapt, variant.precision, device)
        random_demonstrations(model, episodes=3, frames=4)  # normalised like the reference
        found = _outputs(model, data)
        for name, values in found.items():
            difference = (values - expected[name]).abs().max().item()
            yield f"{variant.name}_{name}_difference", difference
        if variant.adapt == "full":  # adapters are other weights, which train otherwise
            _, own = timed_sft(model, data, batch_size=4, updates=6)
            pairs = zip(own.losses(), run.losses(), strict=True)
            difference = max(abs(a - b) for a, b in pairs)
            yield f"{variant.name}_loss_in_training_difference", difference


def _outputs(model: VLM, data: Demonstrations) -> dict[str, Tensor]:
    """Return log-probabilities of actions, and the mean losses, of all frames."""
    acted, frames = data.acted_frames(), torch.arange(len(data.state))
    with torch.no_grad():
        cloned = bc_loss(model, data, acted)
        labelled = time_loss(model, data, frames)
    return {"log_prob": cloned, "loss": torch.stack([cloned.mean(), labelled.mean()])}


def speed(name: str, bench: Bench) -> Measurements:
    """Measure decisions and Stage 1 of one shape, with LoRA and in full, beside `generate()`."""
    shape = tiny(SHAPES[name]) if bench.tiny else SHAPES[name]
    folder = write_vlm(shape, bench.scratch / "models" / name, bench.device)
    yield "parameters_m", num_parameters(folder) / 1e6
    yield "batch_size", shape.batch_size
    plain_rates: dict[int, float] = {}
    kinds: tuple[Adapt, ...] = ("lora", "full")
    for adapt in kinds:
        yield from attempt(adapt, _adapted(folder, shape, adapt, plain_rates, bench))
    shutil.rmtree(folder)  # gigabytes


def _adapted(
    folder: Path, shape: VLMShape, adapt: Adapt, plain_rates: dict[int, float], bench: Bench
) -> Measurements:
    """Yield decisions and Stage 1 of one kind of fine-tuning; `generate()` beside the first."""
    memory = PeakMemory(bench.device)
    started = perf_counter()
    model = _load(folder, adapt, "bfloat16", bench.device)
    yield f"{adapt}_load_s", perf_counter() - started
    rates: dict[int, float] = {}
    for robots in _num_robots(bench):
        decide = ours(model, _frames(robots), instructions(robots))
        seconds = seconds_a_call(decide, bench.device, bench.least_s)
        rates[robots] = robots / seconds
        yield f"{adapt}_decisions_per_s_{robots}", rates[robots]
        fraction = flops_of(decide) / seconds / bench.peak_flops_per_s
        yield f"{adapt}_decisions_fraction_of_peak_{robots}", fraction
    yield f"{adapt}_decisions_memory_gib", memory.gib
    if not plain_rates:
        yield from attempt("generate", _generated(folder, model, plain_rates, bench))
    for robots in rates.keys() & plain_rates.keys():
        yield f"{adapt}_over_generate_{robots}", rates[robots] / plain_rates[robots]
    yield from ((f"{adapt}_{key}", value) for key, value in _fine_tuned(model, shape, bench))


def _generated(
    folder: Path, model: VLM, plain_rates: dict[int, float], bench: Bench
) -> Measurements:
    """Yield decisions by transformers alone, a question of all robots in one call."""
    memory = PeakMemory(bench.device)
    auto = cast(Any, AutoModelForImageTextToText)
    plain = auto.from_pretrained(str(folder), dtype=torch.bfloat16).to(bench.device).eval()
    for robots in _num_robots(bench):
        texts = instructions(robots)
        decide = generate(plain, model, _frames(robots), texts, together=True)
        plain_rates[robots] = robots / seconds_a_call(decide, bench.device, bench.least_s)
        yield f"generate_decisions_per_s_{robots}", plain_rates[robots]
    yield "generate_memory_gib", memory.gib


def _fine_tuned(model: VLM, shape: VLMShape, bench: Bench) -> Measurements:
    """Yield the speed of encoding images and of Stage 1."""
    episodes, frames = (4, 3) if bench.tiny else (16, 8)
    started = perf_counter()
    data = random_demonstrations(model, episodes, frames)
    yield "encoded_frames_per_s", episodes * frames / (perf_counter() - started)
    size = shape.batch_size
    rows = Rows(cloned=data.acted_frames()[:size], labelled=torch.arange(size))
    flops = flops_of(lambda: _backward(model, data, rows))
    model.zero_grad(set_to_none=True)
    memory = PeakMemory(bench.device)
    held_gib = _allocated_gib(bench.device)
    samples_per_s, _ = timed_sft(model, data, size, updates=2 if bench.tiny else 16)
    yield "sft_samples_per_s", samples_per_s
    update_s = 2 * size / samples_per_s
    yield "sft_fraction_of_peak", flops / update_s / bench.peak_flops_per_s
    yield "sft_memory_gib", held_gib + memory.gib


def _backward(model: VLM, data: Demonstrations, rows: Rows) -> None:
    losses = Objectives(model)(data, rows, rows)
    (losses["loss_bc"] + losses["loss_steps_to_go"]).backward()


def _allocated_gib(device: torch.device) -> float:
    """Return the GPU memory of what is there already: the model's weights."""
    return torch.cuda.memory_allocated(device) / 1024**3 if device.type == "cuda" else 0.0


def _load(
    folder: Path, adapt: Adapt, precision: Literal["float32", "bfloat16"], device: torch.device
) -> VLM:
    """Return the model as `nearer sft --model FOLDER` reads it; its adapters are seeded."""
    place = "cuda" if device.type == "cuda" else "cpu"
    settings = VLMConfig(adapt=adapt, precision=precision, device=place)
    torch.manual_seed(0)
    return pretrained_vlm(open_source(str(folder)), settings, SPACES).eval()


def _frames(robots: int) -> np.ndarray:
    """Return two random images a robot: a step ago, and now."""
    camera = SPACES.cameras[0]
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (2, robots, camera.height, camera.width, 3), dtype=np.uint8)


def _num_robots(bench: Bench) -> tuple[int, ...]:
    """Return how many robots decide at once, in turn."""
    return (1, 4) if bench.tiny else (1, 16, 64)
