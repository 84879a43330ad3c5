"""Decisions a second of a vision-language model; the last line printed is one JSON object.

    python benchmarks/vlm.py [--robots 8] [--rounds 7]

A small SmolVLM of random weights, two frames of 128 px a prompt, two prompts a decision: the action
(two tokens) and steps-to-go (one). nearer encodes the new frame, computes the prefix of both once,
and decodes both. Against transformers' own `generate()`, called once a prompt (generate_*),
and once a prompt for all robots together (batched_generate_*). Interleaved rounds, medians; over_*
are medians of ratios within a round.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any, cast

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import AutoModelForImageTextToText, SmolVLMConfig

from nearer.algorithm.model import Inputs
from nearer.core.spaces import Camera, Spaces
from nearer.models.settings import VLMConfig
from nearer.models.vlm.loading import open_source, pretrained_vlm
from nearer.models.vlm.vlm import VLM

SIDE, AXES = 128, 2
SPACES = Spaces(agent_pos=0, environment_state=0, action=AXES, cameras=(Camera("top", SIDE, SIDE),))
SPECIAL = [
    "<pad>", "<|im_start|>", "<end_of_utterance>", "<image>",
    "<fake_token_around_image>", "<global-img>",
]  # fmt: skip
TEXTS = [
    "User: What robot action to move the red moon to the blue cube please? Assistant:",
    "How many steps to move the red moon to the blue cube please?",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--robots", type=int, default=8, help="in one call")
    parser.add_argument("--rounds", type=int, default=7, help="interleaved measurements")
    options = parser.parse_args()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder), options.robots, options.rounds)))


def measure(folder: Path, robots: int, rounds: int) -> dict[str, float]:
    write_model(folder)
    model = pretrained_vlm(open_source(str(folder)), VLMConfig(), SPACES).eval()
    plain = cast(Any, AutoModelForImageTextToText).from_pretrained(str(folder)).eval()
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (2, robots, SIDE, SIDE, 3), dtype=np.uint8)
    words = instructions(robots)
    ways: dict[str, Callable[[], None]] = {
        "": ours(model, frames, words),
        "generate_": generate(plain, model, frames, words, together=False),
        "batched_generate_": generate(plain, model, frames, words, together=True),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()
    for _ in range(rounds):
        for name, way in ways.items():
            started = perf_counter()
            way()
            rates[name].append(robots / (perf_counter() - started))
    rates_and_ratios = {f"{name}actions_per_s": statistics.median(rates[name]) for name in ways}
    for name in ("generate_", "batched_generate_"):
        ratios = [a / b for a, b in zip(rates[""], rates[name], strict=True)]
        rates_and_ratios[f"over_{name.removesuffix('_')}"] = statistics.median(ratios)
    rounded = {name: round(value, 2) for name, value in rates_and_ratios.items()}
    return rounded | {"robots": robots}


def instructions(robots: int) -> list[str]:
    """Return an instruction a robot, of different lengths."""
    return [f"move the red moon to the blue cube {'please ' * (i % 3)}" for i in range(robots)]


def ours(model: VLM, frames: np.ndarray, words: list[str]) -> Callable[[], None]:
    """Return a decision of all robots; the frame before was encoded a step ago."""
    vision_encoder = model.vision_encoder
    before = vision_encoder.track(None, vision_encoder.encode({"top": frames[0]}, words))
    state = torch.zeros(len(words), 0)

    def decide() -> None:
        features = vision_encoder.track(before, vision_encoder.encode({"top": frames[1]}, words))
        inputs = Inputs(state=state, features=torch.from_numpy(features), instructions=words)
        with torch.inference_mode():
            model.sample_and_steps_to_go(
                inputs, [np.random.default_rng(i) for i in range(len(words))]
            )

    return decide


def generate(
    plain: Any, model: VLM, frames: np.ndarray, words: list[str], *, together: bool
) -> Callable[[], None]:
    """Return a decision by transformers alone: the same prompts, the same number of tokens."""
    preprocess, device = model.preprocessing[0], plain.device
    shown = [preprocess(torch.from_numpy(frame).to(device)).to(plain.dtype) for frame in frames]
    pixels = torch.stack(shown, dim=1)
    flat = plain.config.model_type == "paligemma"  # takes all images as one batch

    def generate_both(rows: slice) -> None:
        for task, length in (("action", AXES), ("steps", 1)):
            tokens, real = model.prompts.suffix(cast(Any, task), words[rows])
            prefix = model.prefix.expand(len(tokens), -1)
            # Padding in front of everything, as its processor would have it.
            row = torch.cat([prefix, tokens.to(device)], dim=1)
            mask = torch.cat([torch.ones_like(prefix), real.long().to(device)], dim=1)
            order = torch.argsort(mask, dim=1, stable=True)
            plain.generate(
                input_ids=row.gather(1, order),
                attention_mask=mask.gather(1, order),
                pixel_values=pixels[rows].flatten(0, 1) if flat else pixels[rows],
                do_sample=True,
                max_new_tokens=length,
                min_new_tokens=length,
                pad_token_id=0,
            )

    def decide() -> None:
        each = [slice(i, i + 1) for i in range(len(words))]
        with torch.inference_mode():
            for rows in [slice(None)] if together else each:
                generate_both(rows)

    return decide


def write_model(folder: Path) -> None:
    """Write a SmolVLM of 20 M random weights, with the vocabulary's size of the real one."""
    config = SmolVLMConfig(
        vision_config={
            "model_type": "smolvlm_vision", "hidden_size": 192, "intermediate_size": 768,
            "num_hidden_layers": 6, "num_attention_heads": 3, "image_size": SIDE, "patch_size": 16,
        },
        text_config={
            "model_type": "llama", "vocab_size": 49_280, "hidden_size": 192,
            "intermediate_size": 512, "num_hidden_layers": 8, "num_attention_heads": 3,
            "num_key_value_heads": 1, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
        },
        image_token_id=SPECIAL.index("<image>"),
        scale_factor=2,
        tie_word_embeddings=True,
    )  # fmt: skip
    model = cast(Any, AutoModelForImageTextToText).from_config(config)
    model.save_pretrained(str(folder))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=1000, special_tokens=SPECIAL, initial_alphabet=letters, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)  # a token a word, about as a real one has
    tokenizer.save(str(folder / "tokenizer.json"))


if __name__ == "__main__":
    main()
