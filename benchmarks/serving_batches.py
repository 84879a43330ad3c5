"""Would `nearer serve` answer faster, and the same, if it batched the requests of several robots?

    python benchmarks/serving_batches.py [--rounds 30]

The built-in model for images (small-vla, default sizes, one camera of 96 x 128), one thread. For
two and four robots, prints one JSON line: milliseconds for all answers one by one and as one batch
(medians of interleaved rounds), and whether encodings and steps-to-go logits are equal to the last
bit, with the largest difference.
"""

import argparse
import json
import statistics
from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
import torch

from nearer.algorithm.model import inputs_of
from nearer.core.episode import EncodedObservation, Observation
from nearer.core.spaces import Camera, Spaces
from nearer.models.factory import new_model
from nearer.models.settings import SmallVLAConfig

INSTRUCTION = "push the red moon to the blue cube"


def compare(num_robots: int, rounds: int) -> dict[str, Any]:
    """Return times and equality of answers one by one and as one batch."""
    camera = Camera("front", 96, 128)
    spaces = Spaces(agent_pos=2, environment_state=0, action=2, cameras=(camera,))
    model = new_model("small-vla", SmallVLAConfig(), spaces, (INSTRUCTION,), seed=0).eval()
    encoder = model.vision_encoder
    assert encoder is not None, "small-vla reads images"
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (num_robots, camera.height, camera.width, 3), dtype=np.uint8)
    states = rng.normal(size=(num_robots, 2)).astype(np.float32)

    def answer(rows: slice) -> tuple[Any, torch.Tensor]:
        count = len(states[rows])
        encodings = encoder.encode({camera.name: images[rows]}, [INSTRUCTION] * count)
        observation = Observation(
            agent_pos=states[rows], environment_state=np.zeros((count, 0), np.float32)
        )
        encoded = EncodedObservation(
            observation=observation,
            features=encoder.track(None, encodings),
            reward_features=np.zeros((count, 0), np.float32),
        )
        rngs = [np.random.default_rng(robot) for robot in range(count)]
        inputs = inputs_of(encoded, [INSTRUCTION] * count)
        return encodings, model.sample_and_steps_to_go(inputs, rngs)[2]

    def one_by_one() -> list[tuple[Any, torch.Tensor]]:
        return [answer(slice(robot, robot + 1)) for robot in range(num_robots)]

    def as_one_batch() -> tuple[Any, torch.Tensor]:
        return answer(slice(None))

    with torch.inference_mode():
        single, (encodings, logits) = one_by_one(), as_one_batch()
        singles_ms, batch_ms = medians_ms((one_by_one, as_one_batch), rounds)
    alone = np.concatenate([each[0] for each in single])
    alone_logits = torch.cat([each[1] for each in single])
    return {
        "robots": num_robots,
        "one_by_one_ms": round(singles_ms, 1),
        "batch_ms": round(batch_ms, 1),
        "encodings_equal": bool(np.array_equal(alone, encodings)),
        "logits_equal": torch.equal(alone_logits, logits),
        "largest_encoding_difference": float(np.abs(alone - encodings).max()),
        "largest_logit_difference": float((alone_logits - logits).abs().max()),
    }


def medians_ms(functions: tuple[Callable[[], object], ...], rounds: int) -> list[float]:
    """Return the median time of each function, in milliseconds; they take turns."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(rounds):
        for function, own in zip(functions, times, strict=True):
            started_s = perf_counter()
            function()
            own.append(1000 * (perf_counter() - started_s))
    return [statistics.median(own) for own in times]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    for number in (2, 4):
        print(json.dumps(compare(number, rounds)))
