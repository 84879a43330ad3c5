"""Build a vision-language model from a hub id, a folder or a checkpoint."""

import json
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from jaxtyping import Float
from safetensors import SafetensorError
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForImageTextToText

from nearer.algorithm.action_tokens import action_words
from nearer.core.errors import CheckpointError, ConfigError
from nearer.core.spaces import Spaces
from nearer.models.saved_config import JsonObject
from nearer.models.settings import VLMConfig
from nearer.models.vlm.families import FAMILIES, Network, VLMFamily, family_of
from nearer.models.vlm.image_preprocessing import ImagePreprocessing, preprocessing_of
from nearer.models.vlm.memory_check import check_checkpoint_fits, check_memory
from nearer.models.vlm.network_config import network_config, num_parameters
from nearer.models.vlm.prompts import Prompts
from nearer.models.vlm.towers import DUAL_ENCODERS
from nearer.models.vlm.vlm import VLM
from nearer.runs.checkpoint import check_finite
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
class PretrainedSource:
    """A folder with a pretrained model of a supported kind.

    Attributes:
        folder: holds config.json, tokenizer.json and *.safetensors.
        config: of transformers.
        processor: its image preprocessing; empty if the folder has none.
    """

    folder: Path
    config: Any
    processor: JsonObject

    @property
    def is_dual(self) -> bool:
        """Return whether it is a dual encoder; otherwise it is a vision-language model."""
        return self.config.model_type in DUAL_ENCODERS


def open_source(name: str) -> PretrainedSource:
    """Return the pretrained model that a hub id or a folder names; its weights are not read yet.

    Args:
        name: a folder, user/name or user/name@REVISION.

    Raises:
        ConfigError: there is none, or it is not supported; the message names one that is.
    """
    folder = Path(name) if Path(name).is_dir() else _download(name)
    document = _read_json(folder / "config.json")
    if document is None:
        raise ConfigError(
            f"--model must name a folder with config.json, got {folder} without one; pass a hub "
            "id, or a folder that save_pretrained wrote"
        )
    kind = document.get("model_type")
    if kind not in FAMILIES and kind not in DUAL_ENCODERS:
        has_vision = "vision_config" in document
        what = "takes images in a way that is not supported" if has_vision else "takes no images"
        raise ConfigError(
            "--model must be a vision-language model of a supported family "
            f"({', '.join(FAMILIES)}) or a dual encoder ({', '.join(DUAL_ENCODERS)}), got "
            f"{kind!r}, which {what}; choose for instance HuggingFaceTB/SmolVLM-256M-Instruct or "
            "openai/clip-vit-base-patch32"
        )
    if "quantization_config" in document:
        raise ConfigError(
            f"--model must have weights of full size to be fine-tuned, got {name}, which is "
            "quantised; choose the model that it was made from"
        )
    _check_files(folder)
    return PretrainedSource(
        folder=folder, config=network_config(document, folder), processor=_processor_json(folder)
    )


def _check_files(folder: Path) -> None:
    """Raise ConfigError if there is no tokenizer, or there are no safetensors weights."""
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


def pretrained_vlm(
    source: PretrainedSource, settings: VLMConfig, spaces: Spaces, sharded: int = 1
) -> VLM:
    """Return the model to be fine-tuned, its output tokens initialised from words.

    Args:
        source: of the pretrained model.
        settings: how it is fine-tuned.
        spaces: of the robot.
        sharded: processes that the model will be sharded over.

    Raises:
        ConfigError: it does not fit into memory, or the tower takes no images of that size.
        CheckpointError: a file of weights is damaged.
    """
    check_memory(num_parameters(source.folder), settings, source.folder, sharded=sharded)
    full = read_network(AutoModelForImageTextToText, source.folder, _storage_dtype(settings))
    family = family_of(source.config)
    prompts = _prompts(family, read_tokenizer(source.folder))
    preprocessing = [
        preprocessing_of(
            source.processor, *family.size(settings.image_px, source.processor, camera)
        )
        for camera in spaces.cameras
    ]
    network = _with_adapters(full.model, settings)
    model = VLM(settings, spaces, network, family, prompts, preprocessing, before_stage_one=True)
    _initialise_output_tokens(model, full.lm_head.weight.detach())
    move_to_device(model, settings)
    return model


def read_network(auto: Any, folder: Path, dtype: torch.dtype) -> Network:
    """Return a network of transformers with its weights.

    Args:
        auto: transformers' class that builds the network of config.json.
        folder: of the pretrained model.
        dtype: of the weights in memory.

    Raises:
        CheckpointError: a file of weights is damaged, or some weights are in none.
    """
    try:
        with _quietly():
            network, report = auto.from_pretrained(
                str(folder),
                dtype=dtype,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
            )
    except (OSError, RuntimeError, SafetensorError, KeyError) as error:
        raise CheckpointError(
            f"{folder} must hold whole weights of the model in config.json, got: "
            f"{str(error).splitlines()[0]}; download it again"
        ) from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise CheckpointError(
            f"{folder} must hold all weights of the model in config.json, got none for "
            f"{missing[0]} and {len(missing) - 1} more; download it again"
        )
    for weight in network.parameters():
        # Memory-mapped weights are not aligned, and the last bit of a product then differs from
        # that of the same weights once they are saved and loaded.
        weight.data = weight.data.clone()
    check_finite(dict(network.named_parameters()), f"the weights in {folder}", "download it again")
    return network


def vlm_from_json(config: JsonObject, spaces: Spaces, folder: Path) -> VLM:
    """Return the model that a checkpoint's config.json describes, without its weights.

    Raises:
        CheckpointError: its tokenizer is missing, or it does not fit into memory.
    """
    check_checkpoint_fits(folder)
    settings = vlm_config_from_json(config["settings"])
    network_settings = network_config(config["network"], folder)
    family = family_of(network_settings)
    # The config names the dtype of the hub's weights, which ours need not have.
    network = cast(Any, AutoModel).from_config(network_settings, dtype=_storage_dtype(settings))
    network = _with_adapters(network, settings)
    preprocessing = [preprocessing_from_json(camera) for camera in config["preprocessing"]]
    prompts = _prompts(family, saved_tokenizer(folder))
    model = VLM(settings, spaces, network, family, prompts, preprocessing)
    move_to_device(model, settings)
    return model


def vlm_config_from_json(document: JsonObject) -> VLMConfig:
    """Return a checkpoint's settings; cuda becomes auto, since this machine may have no GPU."""
    settings = VLMConfig(**document)
    return replace(settings, device="auto") if settings.device == "cuda" else settings


def move_to_device(model: nn.Module, settings: VLMConfig) -> None:
    """Move a model to where it computes, unless it is on the meta device, without weights."""
    if not next(model.parameters()).is_meta:
        model.to(device_of(settings))


def device_of(settings: VLMConfig) -> torch.device:
    """Return the device that the model computes on.

    Raises:
        ConfigError: a GPU is asked for, and there is none.
    """
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "--vlm.device must be cpu or auto on a machine without a GPU, got cuda; leave it out"
        )
    on_gpu = settings.device == "cuda" or (settings.device == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if on_gpu else "cpu")


def _storage_dtype(settings: VLMConfig) -> torch.dtype:
    """Return the dtype of pretrained weights in memory: float32 where they are trained."""
    low = settings.adapt == "lora" and settings.precision == "bfloat16"
    return torch.bfloat16 if low else torch.float32


def _with_adapters(network: Network, settings: VLMConfig) -> Network:
    """Return the network; for lora, frozen and with adapters in float32."""
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


def _initialise_output_tokens(model: VLM, head: Float[Tensor, "vocabulary hidden"]) -> None:
    """Set every added token to the mean of the words that say it."""
    embed = model.network.get_input_embeddings()
    levels = [str(level) for level in range(model.state_tokens.num_embeddings)]
    edges = cast(list[float], model.bins.edges().tolist())
    steps = [f"{edge:.0f}" for edge in edges]
    actions = action_words(model.tokens.levels)
    added = [
        (model.action_tokens.weight, actions, embed),
        (model.state_tokens.weight, levels, embed),
        (model.action_head.weight, actions, head.__getitem__),
        (model.steps_head.weight, steps, head.__getitem__),
    ]
    with torch.no_grad():
        for weight, words, rows_of in added:
            for row, word in enumerate(words):
                tokens = torch.tensor(model.prompts.tokens(word), device=head.device)
                weight[row] = rows_of(tokens).float().mean(dim=0)


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


def preprocessing_from_json(document: JsonObject) -> ImagePreprocessing:
    """Return the preprocessing of a camera's images, from a checkpoint's config.json."""
    values = {name: value for name, value in document.items() if name not in ("mean", "std")}
    mean, std = tuple(document["mean"]), tuple(document["std"])  # lists in JSON
    return ImagePreprocessing(**values, mean=mean, std=std)


def _prompts(family: VLMFamily, tokenizer: Tokenizer) -> Prompts:
    return Prompts(tokenizer, family.layout, family.config.image_token_id)


def _processor_json(folder: Path) -> JsonObject:
    """Return the settings of the model's own image processor."""
    for name in ("preprocessor_config.json", "processor_config.json"):
        document = _read_json(folder / name)
        if document is not None:
            return document.get("image_processor", document)
    return {}


def _read_json(path: Path) -> JsonObject | None:
    """Return a JSON object; None where there is no such file."""
    if not path.is_file():
        return None
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} must be JSON, got: {error}; download it again") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path} must hold a JSON object, got {type(document).__name__}")
    return cast(JsonObject, document)


@contextmanager
def _quietly() -> Generator[None, None, None]:
    """Switch the progress bars of transformers off, which would break ours."""
    enabled = transformers.logging.is_progress_bar_enabled()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            transformers.logging.enable_progress_bar()


def _download(name: str) -> Path:
    """Return the folder of a hub's model, downloaded unless it is in the cache."""
    hub_id = split_hub_id(name)
    if hub_id is None:
        raise ConfigError(
            "--model must be small-vla, mlp, a folder, or a hub id such as user/name, got "
            f"{name!r}; check the spelling"
        )
    model, revision = hub_id
    try:
        return download(model, revision=revision, patterns=_FILES)
    except OSError as error:
        raise ConfigError(
            f"--model must name a hub's model that can be reached, got {name!r}: {error}; check "
            "the name and the connection, or log in with hf auth login"
        ) from error
