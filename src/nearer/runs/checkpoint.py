"""Weights on disk, in lerobot's layout, complete or not there at all.

    checkpoints/000128/pretrained_model/config.json        what rebuilds the model
                       pretrained_model/model.safetensors  its weights and normalisation
                       training_state/...                  what resuming needs besides
                       COMPLETE                            written last
    checkpoints/last, policy, reward                       links to one of these

A checkpoint is written under a temporary name and renamed. Nothing is ever pickled. Tensors are
hashed when they are saved, and whoever loads them finds the same ones, finite, or refuses.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from nearer.algorithm.distributed import gather, placed_like
from nearer.algorithm.model import FoundationModel
from nearer.algorithm.run_writer import Counters, TrainingState
from nearer.core.errors import CheckpointError
from nearer.runs.files import whole_folder
from nearer.runs.hub import local_run

_MARKER = "COMPLETE"
_OPTIMIZER_STATE, _TRAINING_STEP = "optimizer_state.safetensors", "training_step.json"
_WEIGHTS_HASH, _OPTIMIZER_HASH = "weights_sha256", "optimizer_state_sha256"
_WRONG_VALUES = (
    *(ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError),
)
"""What constructors raise of a config.json, or a header, that may be anybody's."""
_COPY = "copy the checkpoint again, or use an older one"

Build = Callable[[Mapping[str, Any], Path], FoundationModel]
"""Rebuilds a module, without weights, from its config.json and the folder that this lies in."""


def save_checkpoint(folder: Path, model: FoundationModel, training: TrainingState | None) -> None:
    """Write a checkpoint so that `folder` either holds all of it or does not exist.

    Raises:
        CheckpointError: the disk does not take it; older checkpoints are unharmed.
    """
    try:
        with whole_folder(folder) as temporary:
            pretrained = temporary / "pretrained_model"
            pretrained.mkdir()
            save_model(pretrained, model)
            if training is not None:
                _save_training_state(temporary / "training_state", training)
            (temporary / _MARKER).touch()
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder} must be on a disk that can be written, got: {error}; earlier checkpoints "
            "are unharmed, free some space and continue with --resume"
        ) from error


def save_model(folder: Path, model: FoundationModel) -> None:
    """Write a model's weights and what rebuilds it into a folder that is there.

    Raises:
        CheckpointError: a weight is not finite.
    """
    weights = gather(model.state_dict())
    check_finite(
        weights, "the weights", "earlier checkpoints are unharmed, start again with a smaller rate"
    )
    safetensors.torch.save_file(weights, folder / "model.safetensors")
    described = model.config() | {
        "normalisation_sha256": _normalisation_hash(model, weights),
        _WEIGHTS_HASH: _tensors_hash(weights),
    }
    if model.only_instruction is not None:
        described["only_instruction"] = model.only_instruction
    _write_json(folder / "config.json", described)
    for name, text in model.files().items():
        (folder / name).write_text(text)


def gather_shards(model: FoundationModel, training: TrainingState) -> None:
    """Send this process's shards of a checkpoint that the first process writes."""
    gather(model.state_dict())
    gather(_moments(training.optimizer))


def _save_training_state(folder: Path, training: TrainingState) -> None:
    """Write `optimizer_state.safetensors` and `training_step.json`."""
    folder.mkdir()
    moments = gather(_moments(training.optimizer))
    safetensors.torch.save_file(moments, folder / _OPTIMIZER_STATE)
    hashed = {_OPTIMIZER_HASH: _tensors_hash(moments)}
    _write_json(folder / _TRAINING_STEP, {**training.counters, **hashed})


def _moments(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return what the optimiser remembers of each parameter, by the parameter's number."""
    return {
        f"{parameter}.{name}": value
        for parameter, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
    }


def restore(folder: Path, model: FoundationModel, optimizer: torch.optim.Optimizer) -> Counters:
    """Put weights and the optimiser's moments back and return the loop's counters.

    Raises:
        CheckpointError: a file is damaged, or the checkpoint is another model's.
    """
    weights = _load_tensors(folder / "pretrained_model/model.safetensors")
    config = _read_json(folder / "pretrained_model/config.json")
    _check_hash(weights, config.get(_WEIGHTS_HASH), folder / "pretrained_model", "config.json")
    present = model.state_dict()
    try:
        model.load_state_dict(
            {name: placed_like(saved, present.get(name, saved)) for name, saved in weights.items()}
        )
    except RuntimeError as error:
        raise CheckpointError(
            f"{folder} must hold the model that the run was started with, got: "
            f"{_first_line(error)}; restore it, or start a new run"
        ) from error
    parameters = list(model.parameters())
    state = folder / "training_state"
    saved, counters = _load_tensors(state / _OPTIMIZER_STATE), _read_json(state / _TRAINING_STEP)
    _check_hash(saved, counters.pop(_OPTIMIZER_HASH, None), state, _TRAINING_STEP)
    for name, counter in counters.items():
        if not isinstance(counter, int | float):
            raise CheckpointError(
                f"{state / _TRAINING_STEP} must have a number in {name[:60]}, got "
                f"{str(counter)[:60]}; {_COPY}"
            )
    moments: dict[int, dict[str, Tensor]] = {}
    try:
        for key, value in saved.items():
            number, name = key.split(".")
            placed = placed_like(value, parameters[int(number)])
            moments.setdefault(int(number), {})[name] = placed
        optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    except (ValueError, IndexError, KeyError, TypeError, RuntimeError) as error:
        raise CheckpointError(
            f"{state / _OPTIMIZER_STATE} must hold the moments of the run's own weights, got: "
            f"{_first_line(error)}; {_COPY}"
        ) from error
    return counters


def load_model(path: Path, build: Build, link: str = "policy") -> FoundationModel:
    """Return the model of a checkpoint, ready to use, with exactly the weights on disk.

    Args:
        path: a run, a checkpoint of it, its `pretrained_model` folder, or a hub id.
        build: rebuilds the module from config.json.
        link: which checkpoint of a run: policy, reward or last.

    Raises:
        CheckpointError: nothing complete is there, a file is damaged, or the weights are those of
            another model or another normalisation.
    """
    folder = pretrained_folder(path, link)
    config = _read_json(folder / "config.json")
    weights = _load_tensors(folder / "model.safetensors")
    try:
        _check_sizes(build, config, folder, weights)
        model = build(config, folder)
        model.load_state_dict(weights)
        model.only_instruction = _text_or_none(config, "only_instruction")
    except CheckpointError:
        raise
    except _WRONG_VALUES as error:
        raise CheckpointError(
            f"{folder}/model.safetensors must fit the model that config.json describes, got: "
            f"{_first_line(error)}; copy both files from one checkpoint"
        ) from error
    if _normalisation_hash(model, weights) != config.get("normalisation_sha256"):
        raise CheckpointError(
            f"{folder}/model.safetensors must carry the normalisation that config.json was written "
            "with, got another; copy both files from one checkpoint"
        )
    _check_hash(weights, config.get(_WEIGHTS_HASH), folder, "config.json")
    return model.eval()


def _text_or_none(config: Mapping[str, Any], key: str) -> str | None:
    value = config.get(key)
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{key} {value!r}, no text")
    return value


class _NothingDrawn(TorchFunctionMode):
    """Computes no weights: the first normal draw on the meta device imports for two seconds."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = kwargs or {}
        if func is nn.init.normal_:
            return args[0] if args else options["tensor"]
        if func is torch.eye:
            return torch.empty(args[0], args[0])
        return func(*args, **options)


def _check_sizes(
    build: Build, config: Mapping[str, object], folder: Path, weights: Mapping[str, Tensor]
) -> None:
    """Raise RuntimeError if config.json asks for other weights, before they take any memory.

    It may come from anybody, and name a layer that no machine can hold.
    """
    with torch.device("meta"), _NothingDrawn():
        described = build(config, folder).state_dict()
    for name in sorted(described.keys() ^ weights.keys()):
        raise RuntimeError(f"{name} {'that is missing' if name in described else 'in addition'}")
    for name in sorted(described):
        expected, saved = tuple(described[name].shape), tuple(weights[name].shape)
        if saved != expected:
            raise RuntimeError(f"{name} of shape {saved} in place of {expected}")


def pretrained_folder(path: Path, link: str) -> Path:
    """Return the folder with config.json and weights that a path of a user's means."""
    root = local_run(path)
    # On the hub the policy is at the root, and the reward in a folder of its own.
    inside = (link, "", "pretrained_model", f"checkpoints/{link}/pretrained_model")
    candidates = [root / folder for folder in inside]
    for candidate in candidates:
        if (candidate / "config.json").is_file() and (candidate / "model.safetensors").is_file():
            if candidate.name == "pretrained_model" and not (candidate.parent / _MARKER).exists():
                raise CheckpointError(
                    f"{candidate.parent} must hold a file {_MARKER}, got a checkpoint that was "
                    "never finished; use an older one, or continue its run with --resume"
                )
            return candidate
    raise CheckpointError(
        f"{path} must be a run or a checkpoint with config.json and model.safetensors, got neither "
        "there nor in pretrained_model/ nor in checkpoints/" + link + "/; "
        "make one with nearer sft --data DIR --out RUN"
    )


def complete_checkpoints(folder: Path) -> list[Path]:
    """Return the finished checkpoints of a run's `checkpoints` folder, oldest first."""
    checkpoints = (path.parent for path in folder.glob(f"[0-9]*/{_MARKER}"))
    return sorted(checkpoints, key=lambda path: int(path.name))


def linked_step(root: Path, link: str) -> int | None:
    """Return the number of the checkpoint that a link of a run names; None where it names none."""
    path = root / "checkpoints" / link
    name = path.resolve().name if path.is_symlink() else ""
    return int(name) if name.isdecimal() else None


def weights_hash(model: nn.Module) -> str:
    """Return the SHA-256 of all weights and buffers, by name."""
    return _tensors_hash(dict(model.state_dict()))


def _normalisation_hash(model: FoundationModel, weights: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of the statistics that states and actions are normalised by."""
    return _tensors_hash({name: weights[name] for name in model.normalisation})


def _check_hash(tensors: Mapping[str, Tensor], hashed: object, folder: Path, file: str) -> None:
    """Raise CheckpointError unless tensors are those that a file beside them names the hash of.

    A checkpoint of an earlier version names none.
    """
    if hashed is not None and _tensors_hash(tensors) != hashed:
        raise CheckpointError(
            f"{folder} must hold the tensors that {file} was written with, got others; {_COPY}"
        )


def check_finite(tensors: Mapping[str, Tensor], what: str, advice: str) -> None:
    """Raise CheckpointError if a number among tensors is nan or infinite."""
    for name, values in tensors.items():
        if values.is_floating_point() and not bool(values.isfinite().all()):
            raise CheckpointError(f"{what} must be finite, got nan or inf in {name}; {advice}")


def _tensors_hash(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        values = tensors[name].detach().cpu().contiguous().flatten()
        digest.update(values.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _load_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file, all of them finite."""
    try:
        tensors = safetensors.torch.load_file(path)
    except (OSError, SafetensorError, *_WRONG_VALUES) as error:
        raise CheckpointError(
            f"{path} must be a whole safetensors file, got: {_first_line(error)}; "
            "copy it again, or use an older checkpoint"
        ) from error
    check_finite(tensors, str(path), _COPY)
    return tensors


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, such as weights."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} must be a JSON file, got: {_first_line(error)}; copy the checkpoint again"
        ) from error
    if not isinstance(document, dict):
        raise CheckpointError(f"{path} must hold a JSON object; copy the checkpoint again")
    return cast(dict[str, Any], document)


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
