"""Whether a model fits into memory, checked before its weights are read."""

from pathlib import Path

import torch

from nearer.core.errors import CheckpointError, ConfigError
from nearer.models.settings import VLMConfig

_GIB = 1024**3
_TRAINED_BYTES = 16  # a trained weight: itself, its gradient, AdamW's two moments; float32
_FROZEN_BYTES = 4
_TOWER_FRACTION = 0.1  # of the weights; a low estimate: 0.35 in a SmolVLM of 256 M
_IMAGE_TOWER_FRACTION = 0.7  # of a dual encoder; 0.46 to 0.71 in CLIP and SigLIP
_MARGIN = 1.1  # for activations and the reading itself


def bytes_needed(parameters: int, settings: VLMConfig, sharded: int = 1) -> int:
    """Return an estimate of the memory that fine-tuning takes, apart from activations.

    Args:
        parameters: weights of the pretrained model.
        settings: how it is fine-tuned.
        sharded: processes that the model is sharded over, after each has read all of it.
    """
    trained = 1 if settings.tower == "trained" else 1 - _TOWER_FRACTION
    return _needed(parameters, 0 if settings.adapt == "lora" else trained, settings, sharded)


def dual_bytes_needed(parameters: int, settings: VLMConfig, sharded: int = 1) -> int:
    """Return the same for a dual encoder, of which at most the image tower trains."""
    trained = _IMAGE_TOWER_FRACTION if settings.tower == "trained" else 0
    return _needed(parameters, trained, settings, sharded)


def _needed(parameters: int, trained: float, settings: VLMConfig, sharded: int) -> int:
    """Return the larger of what reading and training need; `trained` is a fraction of weights."""
    reading = _bytes_a_weight(settings)
    training = (trained * _TRAINED_BYTES + (1 - trained) * reading) / sharded
    return round(parameters * max(reading, training) * _MARGIN)


def _bytes_a_weight(settings: VLMConfig) -> int:
    """Return the bytes of a pretrained weight in memory."""
    low = settings.adapt == "lora" and settings.precision == "bfloat16"
    return _FROZEN_BYTES // 2 if low else _FROZEN_BYTES


def check_memory(
    parameters: int, settings: VLMConfig, folder: Path, *, dual: bool = False, sharded: int = 1
) -> None:
    """Raise ConfigError if a model with so many weights does not fit into this machine's memory."""
    needed = (dual_bytes_needed if dual else bytes_needed)(parameters, settings, sharded)
    read, what = (
        parameters * _bytes_a_weight(settings),
        f"{folder} ({parameters / 1e6:.0f} M weights)",
    )
    if needed > free_memory(settings):
        raise ConfigError(
            f"the memory must hold about {needed / _GIB:.1f} GiB to fine-tune {what} in this way, "
            f"got {free_memory(settings) / _GIB:.1f} GiB free; {_smaller(settings, dual=dual)}"
        )
    if read > free_main_memory():  # weights are read there first, also on their way to a GPU
        raise ConfigError(
            f"the memory must hold about {read / _GIB:.1f} GiB to read {what}, got "
            f"{free_main_memory() / _GIB:.1f} GiB free; choose a smaller model"
        )


def check_checkpoint_fits(folder: Path) -> None:
    """Raise CheckpointError if a checkpoint's file and its weights do not both fit into memory."""
    needed = 2 * sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    if needed > free_main_memory():
        raise CheckpointError(
            f"the memory must hold about {needed / _GIB:.1f} GiB to load {folder}, got "
            f"{free_main_memory() / _GIB:.1f} GiB free; end other programs, or use a larger machine"
        )


def _smaller(settings: VLMConfig, *, dual: bool) -> str:
    """Return advice on what needs less memory."""
    if dual and settings.tower == "trained":
        return "leave out --vlm.tower trained, or choose a smaller model"
    if dual or (settings.adapt == "lora" and settings.precision == "bfloat16"):
        return "choose a smaller model"
    return (
        "pass --vlm.adapt lora --vlm.precision bfloat16, share it among GPUs with --processes "
        "fsdp, or choose a smaller model"
    )


def free_memory(settings: VLMConfig) -> int:
    """Return the free bytes of the device that the model computes on."""
    if settings.device != "cpu" and torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0]
    return free_main_memory()


def free_main_memory() -> int:
    """Return the free bytes of main memory; a very large number where they are not known."""
    meminfo = Path("/proc/meminfo")  # Linux only
    for line in meminfo.read_text().splitlines() if meminfo.exists() else ():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 2**62
