"""Whether a model fits, told before its weights are read."""

from pathlib import Path

import torch

from nearer.errors import ConfigError
from nearer.models.vlm.config import VLMConfig

_GIB = 1024**3
_LEARNED = 16  # bytes a weight that learns: itself, its gradient and AdamW's two moments, float32
_KEPT = 4
_SHARE_OF_TOWER = 0.1  # of the weights, roughly and rather too low: 0.35 in a SmolVLM of 256 M
_SHARE_OF_IMAGE_TOWER = 0.7  # of a dual encoder; 0.46 to 0.71 in CLIP and SigLIP
_ROOM = 1.1  # for activations, and the reading itself


def bytes_needed(parameters: int, settings: VLMConfig) -> int:
    """Return an estimate of the memory that fine-tuning takes, apart from activations."""
    if settings.adapt == "lora":
        return round(parameters * (2 if settings.precision == "bfloat16" else 4) * _ROOM)
    learned = 1 if settings.tower == "trained" else 1 - _SHARE_OF_TOWER
    return round(parameters * (learned * _LEARNED + (1 - learned) * _KEPT) * _ROOM)


def dual_bytes_needed(parameters: int, settings: VLMConfig) -> int:
    """Return the same for a dual encoder, of which the image tower learns at most."""
    learned = _SHARE_OF_IMAGE_TOWER if settings.tower == "trained" else 0
    return round(parameters * (learned * _LEARNED + (1 - learned) * _KEPT) * _ROOM)


def check_memory(parameters: int, settings: VLMConfig, folder: Path, *, dual: bool = False) -> None:
    """Raise ConfigError if a model of so many weights cannot be fine-tuned here."""
    needed = (dual_bytes_needed if dual else bytes_needed)(parameters, settings)
    there = memory_there(settings)
    if needed > there:
        raise ConfigError(
            f"the memory must hold about {needed / _GIB:.1f} GiB to fine-tune {folder} "
            f"({parameters / 1e6:.0f} M weights) in this way, got {there / _GIB:.1f} GiB free; "
            f"{_smaller(settings, dual=dual)}"
        )


def _smaller(settings: VLMConfig, *, dual: bool) -> str:
    """Return what would need less memory."""
    if dual and settings.tower == "trained":
        return "leave out --vlm.tower trained, or choose a smaller model"
    if dual or (settings.adapt == "lora" and settings.precision == "bfloat16"):
        return "choose a smaller model"
    return "pass --vlm.adapt lora --vlm.precision bfloat16, or choose a smaller model"


def memory_there(settings: VLMConfig) -> int:
    """Return the bytes that are free where the model computes."""
    if settings.device != "cpu" and torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0]
    says = Path("/proc/meminfo")  # Linux alone; elsewhere nothing is refused
    for line in says.read_text().splitlines() if says.exists() else ():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 2**62
