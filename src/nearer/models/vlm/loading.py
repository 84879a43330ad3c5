"""A hub id or a folder -> a pretrained model that can serve, or a sentence why it cannot."""

import json
import math
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, AutoModel, AutoModelForImageTextToText

from nearer.algorithm.action_tokens import action_words
from nearer.core.errors import CheckpointError, ConfigError
from nearer.core.spaces import Spaces
from nearer.models.settings import VLMConfig
from nearer.models.vlm.families import FAMILIES, Family, Network, family_of
from nearer.models.vlm.image_preprocessing import Preparing, preparing_of
from nearer.models.vlm.memory_check import check_memory, check_room
from nearer.models.vlm.prompts import Prompts
from nearer.models.vlm.towers import DUAL_ENCODERS
from nearer.models.vlm.vlm import VLM
from nearer.runs.hub import download, split_hub_id

_FILES = [
    "config.json",
    "*tokenizer*",
    "*processor*.json",
    "*.safetensors",
    "*.safetensors.index.json",
]
_LANGUAGE_LAYERS = r".*(language_model|text_model)\..*\.(q|k|v|o|gate|up|down)_proj"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A pretrained model's folder that can serve.

    Attributes:
        folder: holds config.json, tokenizer.json and *.safetensors.
        config: of transformers.
        processor: settings of its pictures; empty if the folder says nothing.
    """

    folder: Path
    config: Any
    processor: Mapping[str, Any]

    @property
    def is_dual(self) -> bool:
        """Tell a dual encoder from a vision-language model."""
        return self.config.model_type in DUAL_ENCODERS


def open_source(name: str) -> Source:
    """Return the source that a hub id or a folder means; nothing of its weights is read yet.

    Args:
        name: a folder, user/name or user/name@REVISION.

    Raises:
        ConfigError: there is none, or it cannot serve; names what would.
    """
    folder = Path(name) if Path(name).is_dir() else _download(name)
    document = _json(folder / "config.json")
    if document is None:
        raise ConfigError(
            f"--model must name a folder with config.json, got {folder} without one; pass a hub "
            "id, or a folder that save_pretrained wrote"
        )
    kind = document.get("model_type")
    if kind not in FAMILIES and kind not in DUAL_ENCODERS:
        sees = "vision_config" in document
        what = "reads pictures in a way that is not known here" if sees else "takes no pictures"
        raise ConfigError(
            f"--model must be a vision-language model of a known family ({', '.join(FAMILIES)}) or "
            f"a dual encoder ({', '.join(DUAL_ENCODERS)}), got {kind!r}, which {what}; choose for "
            "instance HuggingFaceTB/SmolVLM-256M-Instruct or openai/clip-vit-base-patch32"
        )
    if "quantization_config" in document:
        raise ConfigError(
            f"--model must have weights of full size to be fine-tuned, got {name}, which is "
            "quantised; choose the model that it was made from"
        )
    _check_files(folder)
    return Source(folder=folder, config=network_config(document), processor=_processor(folder))


def _check_files(folder: Path) -> None:
    """Raise ConfigError if there is no tokenizer, or no weights that are read here."""
    if not (folder / "tokenizer.json").is_file():
        raise ConfigError(
            f"{folder} must hold tokenizer.json, got none; save the tokenizer there with "
            "AutoTokenizer.from_pretrained(...).save_pretrained(...)"
        )
    if not any(folder.glob("*.safetensors")):
        raise ConfigError(
            f"{folder} must hold weights as *.safetensors, got none; pickled weights are never "
            "read, save the model again with save_pretrained"
        )


def pretrained_vlm(source: Source, settings: VLMConfig, spaces: Spaces, sharded: int = 1) -> VLM:
    """Return the model to be fine-tuned: pretrained weights, and answers that know their words.

    Args:
        source: of the pretrained model.
        settings: how it is fine-tuned.
        spaces: of the robot.
        sharded: processes that will have a part of it each.

    Raises:
        ConfigError: it is too large for the memory, or the tower cannot see such pictures.
        CheckpointError: a file of weights is damaged.
    """
    check_memory(num_parameters(source.folder), settings, source.folder, sharded=sharded)
    whole = read_network(AutoModelForImageTextToText, source.folder, _kept(settings))
    family = family_of(source.config)
    prompts = _prompts(family, read_tokenizer(source.folder))
    preparing = [
        preparing_of(source.processor, *family.size(settings.image_px, source.processor, camera))
        for camera in spaces.cameras
    ]
    network = _adapted(whole.model, settings)
    model = VLM(settings, spaces, network, family, prompts, preparing, learns=True)
    _teach_answers(model, whole.lm_head.weight.detach())
    place(model, settings)
    return model


def read_network(auto: Any, folder: Path, kept: torch.dtype) -> Network:
    """Return a network of transformers with its weights.

    Args:
        auto: transformers' class that knows which network config.json means.
        folder: of the pretrained model.
        kept: what weights are kept in.

    Raises:
        CheckpointError: a file of weights is damaged, or some weights are in none.
    """
    try:
        with _quietly():
            network, told = auto.from_pretrained(
                str(folder),
                dtype=kept,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
            )
    except (OSError, RuntimeError, SafetensorError, KeyError) as error:
        raise CheckpointError(
            f"{folder} must hold whole weights of the model in config.json, got: "
            f"{str(error).splitlines()[0]}; download it again"
        ) from error
    missing = sorted(told["missing_keys"])
    if missing:
        raise CheckpointError(
            f"{folder} must hold all weights of the model in config.json, got none for "
            f"{missing[0]} and {len(missing) - 1} more; download it again"
        )
    for weight in network.parameters():
        # As they lie in the file they are not aligned, and then the last bit of a product differs
        # from what the same weights give once they are saved and loaded.
        weight.data = weight.data.clone()
    return network


def saved_vlm(config: Mapping[str, Any], spaces: Spaces, folder: Path) -> VLM:
    """Return the model that a checkpoint's config.json describes, without its weights.

    Raises:
        CheckpointError: its tokenizer is missing, or the memory is too small.
    """
    check_room(folder)
    settings = saved_settings(config)
    described = network_config(config["network"])
    family = family_of(described)
    # Its config.json says what the hub's weights were kept in, not what ours are.
    network = cast(Any, AutoModel).from_config(described, dtype=_kept(settings))
    network = _adapted(network, settings)
    preparing = [saved_preparing(one) for one in config["preparing"]]
    prompts = _prompts(family, saved_tokenizer(folder))
    model = VLM(settings, spaces, network, family, prompts, preparing)
    place(model, settings)
    return model


def saved_settings(config: Mapping[str, Any]) -> VLMConfig:
    """Return a checkpoint's settings, for the machine it is loaded on: perhaps without a GPU."""
    settings = VLMConfig(**config["settings"])
    return replace(settings, device="auto") if settings.device == "cuda" else settings


def place(model: nn.Module, settings: VLMConfig) -> None:
    """Move a model to where it computes, unless it is on no machine: sizes without weights."""
    if not next(model.parameters()).is_meta:
        model.to(device_of(settings))


def device_of(settings: VLMConfig) -> torch.device:
    """Return where the model computes.

    Raises:
        ConfigError: a GPU is asked for, and there is none.
    """
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "--vlm.device must be cpu or auto on a machine without a GPU, got cuda; leave it out"
        )
    found = settings.device == "cuda" or (settings.device == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if found else "cpu")


def num_parameters(folder: Path) -> int:
    """Count the weights of a folder, from the heads of its files alone.

    Raises:
        CheckpointError: a file is damaged.
    """
    total = 0
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with cast(Any, safe_open(path, framework="pt")) as file:
                names = file.keys()
                total += sum(math.prod(file.get_slice(name).get_shape()) for name in names)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(
                f"{path} must be a whole safetensors file, got: {error}; download it again"
            ) from error
    return total


def _kept(settings: VLMConfig) -> torch.dtype:
    """Return what pretrained weights are kept in: float32 where they learn."""
    low = settings.adapt == "lora" and settings.precision == "bfloat16"
    return torch.bfloat16 if low else torch.float32


def _adapted(network: Network, settings: VLMConfig) -> Network:
    """Return the network; for lora with what learns beside it, in float32."""
    if settings.adapt == "lora":
        try:
            from peft import LoraConfig, inject_adapter_in_model
        except ImportError as error:
            raise ConfigError(
                "--vlm.adapt lora must have the package peft, got none; run pip install "
                "'nearer[vlm]'"
            ) from error
        network.requires_grad_(False)
        rank = settings.lora_rank
        lora = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=_LANGUAGE_LAYERS)
        network = inject_adapter_in_model(lora, network)
        for name, weight in network.named_parameters():
            if "lora_" in name:
                weight.data = weight.data.float()
    return network


def _teach_answers(model: VLM, head: Float[Tensor, "vocabulary hidden"]) -> None:
    """Let every added token start as the mean of the words that say it."""
    embed = model.network.get_input_embeddings()
    levels = [str(level) for level in range(model.state_tokens.num_embeddings)]
    edges = cast(list[float], model.bins.edges().tolist())
    steps = [f"{edge:.0f}" for edge in edges]
    actions = action_words(model.tokens.levels)
    answers = [
        (model.action_tokens.weight, actions, embed),
        (model.state_tokens.weight, levels, embed),
        (model.action_head.weight, actions, head.__getitem__),
        (model.steps_head.weight, steps, head.__getitem__),
    ]
    with torch.no_grad():
        for weight, words, numbers in answers:
            for row, word in enumerate(words):
                said = torch.tensor(model.prompts.tokens(word), device=head.device)
                weight[row] = numbers(said).float().mean(dim=0)


def read_tokenizer(folder: Path) -> Tokenizer:
    """Return the tokenizer of a folder.

    Raises:
        ConfigError: it is damaged.
    """
    path = folder / "tokenizer.json"
    try:
        return Tokenizer.from_str(path.read_text())
    except Exception as error:  # its package raises nothing narrower
        raise ConfigError(
            f"{path} must be one that the package tokenizers wrote, got: {error}; save it again "
            "with save_pretrained"
        ) from error


def saved_tokenizer(folder: Path) -> Tokenizer:
    """Return the tokenizer of a checkpoint.

    Raises:
        CheckpointError: it is missing.
    """
    if not (folder / "tokenizer.json").is_file():
        raise CheckpointError(
            f"{folder} must hold tokenizer.json beside config.json, got none; copy it again"
        )
    return read_tokenizer(folder)


def saved_preparing(document: Mapping[str, Any]) -> Preparing:
    """Return how a camera's pictures are prepared, as a checkpoint's config.json has it."""
    values: dict[str, Any] = {
        name: tuple(cast(Any, value)) if isinstance(value, list) else value
        for name, value in document.items()
    }
    return Preparing(**values)


def _prompts(family: Family, tokenizer: Tokenizer) -> Prompts:
    return Prompts(tokenizer, family.layout, family.config.image_token_id)


def network_config(document: Mapping[str, Any]) -> Any:
    """Return what a config.json says of a network, as transformers has it."""
    kind = document["model_type"]
    return CONFIG_MAPPING[kind].from_dict(dict(document))


def _processor(folder: Path) -> Mapping[str, Any]:
    """Return how the model's own processor prepares pictures."""
    for name in ("preprocessor_config.json", "processor_config.json"):
        document = _json(folder / name)
        if document is not None:
            return document.get("image_processor", document)
    return {}


def _json(path: Path) -> dict[str, Any] | None:
    """Return a JSON object; None where there is no such file."""
    if not path.is_file():
        return None
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} must be JSON, got: {error}; download it again") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path} must hold a JSON object, got {type(document).__name__}")
    return cast(dict[str, Any], document)


@contextmanager
def _quietly() -> Generator[None, None, None]:
    """Let transformers draw no progress bar of its own over ours."""
    drawn = transformers.logging.is_progress_bar_enabled()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        if drawn:
            transformers.logging.enable_progress_bar()


def _download(name: str) -> Path:
    """Return the folder of a hub's model, downloaded unless it has been before."""
    found = split_hub_id(name)
    if found is None:
        raise ConfigError(
            "--model must be small-vla, mlp, a folder, or a hub id such as user/name, got "
            f"{name!r}; check the spelling"
        )
    model, revision = found
    try:
        return download(model, revision=revision, patterns=_FILES)
    except OSError as error:
        raise ConfigError(
            f"--model must name a hub's model that can be reached, got {name!r}: {error}; check "
            "the name and the connection, or log in with hf auth login"
        ) from error
