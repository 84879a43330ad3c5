"""Whether a model fits, told before its weights are read."""

from pathlib import Path

import torch

from nearer.core.errors import CheckpointError, ConfigError
from nearer.models.settings import VLMConfig

_GIB = 1024**3
_LEARNED = 16  # bytes a weight that learns: itself, its gradient and AdamW's two moments, float32
_KEPT = 4
_SHARE_OF_TOWER = 0.1  # of the weights, roughly and rather too low: 0.35 in a SmolVLM of 256 M
_SHARE_OF_IMAGE_TOWER = 0.7  # of a dual encoder; 0.46 to 0.71 in CLIP and SigLIP
_ROOM = 1.1  # for activations, and the reading itself


def bytes_needed(parameters: int, settings: VLMConfig, sharded: int = 1) -> int:
    """Return an estimate of the memory that fine-tuning takes, apart from activations.

    Args:
        parameters: weights of the pretrained model.
        settings: how it is fine-tuned.
        sharded: processes that have a part each, once each has read the whole.
    """
    learned = 1 if settings.tower == "trained" else 1 - _SHARE_OF_TOWER
    return _needed(parameters, 0 if settings.adapt == "lora" else learned, settings, sharded)


def dual_bytes_needed(parameters: int, settings: VLMConfig, sharded: int = 1) -> int:
    """Return the same for a dual encoder, of which the image tower learns at most."""
    learned = _SHARE_OF_IMAGE_TOWER if settings.tower == "trained" else 0
    return _needed(parameters, learned, settings, sharded)


def _needed(parameters: int, learned: float, settings: VLMConfig, sharded: int) -> int:
    kept = _kept(settings)
    trained = (learned * _LEARNED + (1 - learned) * kept) / sharded
    return round(parameters * max(kept, trained) * _ROOM)


def _kept(settings: VLMConfig) -> int:
    """Return the bytes of a weight as it is read."""
    low = settings.adapt == "lora" and settings.precision == "bfloat16"
    return _KEPT // 2 if low else _KEPT


def check_memory(
    parameters: int, settings: VLMConfig, folder: Path, *, dual: bool = False, sharded: int = 1
) -> None:
    """Raise ConfigError if a model of so many weights cannot be fine-tuned here."""
    needed = (dual_bytes_needed if dual else bytes_needed)(parameters, settings, sharded)
    read, what = parameters * _kept(settings), f"{folder} ({parameters / 1e6:.0f} M weights)"
    if needed > memory_there(settings):
        raise ConfigError(
            f"the memory must hold about {needed / _GIB:.1f} GiB to fine-tune {what} in this way, "
            f"got {memory_there(settings) / _GIB:.1f} GiB free; {_smaller(settings, dual=dual)}"
        )
    if read > main_memory():  # where weights go first, also on their way to a GPU
        raise ConfigError(
            f"the memory must hold about {read / _GIB:.1f} GiB to read {what}, got "
            f"{main_memory() / _GIB:.1f} GiB free; choose a smaller model"
        )


def check_room(folder: Path) -> None:
    """Raise CheckpointError if a checkpoint cannot be loaded: its weights, and the file of them."""
    needed = 2 * sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    if needed > main_memory():
        raise CheckpointError(
            f"the memory must hold about {needed / _GIB:.1f} GiB to load {folder}, got "
            f"{main_memory() / _GIB:.1f} GiB free; end other programs, or take a larger machine"
        )


def _smaller(settings: VLMConfig, *, dual: bool) -> str:
    """Return what would need less memory."""
    if dual and settings.tower == "trained":
        return "leave out --vlm.tower trained, or choose a smaller model"
    if dual or (settings.adapt == "lora" and settings.precision == "bfloat16"):
        return "choose a smaller model"
    return (
        "pass --vlm.adapt lora --vlm.precision bfloat16, share it among GPUs with --processes "
        "fsdp, or choose a smaller model"
    )


def memory_there(settings: VLMConfig) -> int:
    """Return the bytes that are free where the model computes."""
    if settings.device != "cpu" and torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0]
    return main_memory()


def main_memory() -> int:
    """Return the bytes of the machine's own memory that are free."""
    says = Path("/proc/meminfo")  # Linux alone; elsewhere nothing is refused
    for line in says.read_text().splitlines() if says.exists() else ():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 2**62
