"""How fast images reach Stage 1; the last line printed is one JSON object.

    python benchmarks/loader.py [--episodes 400]

The data set is made here: episodes of 36 frames, drawn blocks that move, 96 x 128 pixels, once as
video and once as images. All reading is at random, in batches of 256.

cold_video_frames_per_s, cold_image_frames_per_s: an empty frame cache until every frame has been
read once; decoding is included, the operating system's own cache of the files is emptied.
uncached_*: the same batches decoded from the data set's files, without the cache.
warm_frames_per_s: batches of a frame cache that exists.
sft_wait_share: part of the time of Stage 1 that goes into `Demonstrations.inputs`.
peak_memory_mib: a process that decodes and reads the whole data set, without the pages of files,
held to `memory_limit_mib` by the system; the images take `decoded_mib`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from nearer.algorithm.demonstrations import split_by_episode
from nearer.datasets.caching.frames import open_frames
from nearer.datasets.lerobot.reader import Dataset, open_dataset

CAMERA, HEIGHT, WIDTH, FRAMES = "top", 96, 128, 36
BATCH = 256
COLOURS = {"red": (204, 40, 40), "blue": (40, 60, 200), "green": (40, 160, 70)}
DRAWN_EPISODES = 32  # different ones; more would take longer than what is measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--episodes", type=int, default=400, help="of 36 frames")
    parser.add_argument("--measure-memory", nargs=2, metavar=("DATA", "CACHE"), help="in here")
    options = parser.parse_args()
    if options.measure_memory:
        print(json.dumps(memory_of(*map(Path, options.measure_memory))))
        return
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(folder), options.episodes)))


def measure(folder: Path, episodes: int) -> dict[str, float]:
    result: dict[str, float] = {}
    for storage in ("image", "video"):
        dataset = record(folder / storage, storage, episodes)
        result[f"cold_{storage}_frames_per_s"] = cold(dataset, folder / f"cache-{storage}")
        result[f"uncached_{storage}_frames_per_s"] = uncached(dataset)
    result["warm_frames_per_s"] = warm(dataset, folder / "cache-video")
    result["sft_wait_share"] = sft_wait_share(dataset, folder)
    result |= limited(dataset.root, folder / "cache-memory")
    return {name: round(value, 4 if value < 1 else 0) for name, value in result.items()}


def record(root: Path, storage: Any, episodes: int) -> Dataset:
    """Write drawn episodes, 200 an append."""
    from nearer.core.episode import EncodedObservation, Ended, Episode, Observation
    from nearer.core.spaces import Camera, Spaces
    from nearer.datasets.episodes import create_dataset, episode_frames

    cameras = (Camera(CAMERA, HEIGHT, WIDTH),)
    spaces = Spaces(agent_pos=2, environment_state=0, action=2, cameras=cameras)
    writer = create_dataset(root, spaces, 5, "drawn", images=storage)
    drawn = [draw_episode(np.random.default_rng(seed)) for seed in range(DRAWN_EPISODES)]
    for rows in np.split(np.arange(episodes), range(200, episodes, 200)):
        block = []
        for row in rows.tolist():
            images, path = drawn[row % DRAWN_EPISODES]
            episode = Episode(
                robot=0,
                seed=row,
                instruction=f"push the {list(COLOURS)[row % 3]} cube to the {row} moon",
                policy_version=0,
                observations=EncodedObservation.without_features(
                    Observation(
                        agent_pos=path,
                        environment_state=np.zeros((FRAMES, 0), np.float32),
                        images={CAMERA: images},
                    )
                ),
                actions=np.diff(path, axis=0) / 0.03,
                log_prob=np.zeros(FRAMES - 1, np.float32),
                ended=Ended.SUCCESS_TRUE,
            )
            block.append(episode_frames(episode))
        writer.append(block)
    return open_dataset(root)


def draw_episode(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw a pusher that pushes one of nine blocks over a board; return images and its path."""
    blocks = random.uniform(12, 84, (9, 2))
    path = np.cumsum(random.uniform(-2, 2, (FRAMES, 2)), axis=0) + random.uniform(24, 72, 2)
    shade = np.linspace(130, 180, WIDTH)[None, :, None] + np.linspace(0, 20, HEIGHT)[:, None, None]
    board = Image.fromarray(np.broadcast_to(shade, (HEIGHT, WIDTH, 3)).astype(np.uint8))
    board = board.resize((4 * WIDTH, 4 * HEIGHT))
    images = np.empty((FRAMES, HEIGHT, WIDTH, 3), np.uint8)
    for frame, (x, y) in enumerate(path):
        blocks[0] += np.clip((x, y) - blocks[0], -1, 1)
        image = board.copy()
        draw = ImageDraw.Draw(image)
        for number, (left, top) in enumerate(4 * blocks):
            colour = list(COLOURS.values())[number % 3]
            draw.regular_polygon((left, top, 18), 3 + number % 4, 7 * number, fill=colour)
        draw.ellipse((4 * x - 8, 4 * y - 8, 4 * x + 8, 4 * y + 8), fill=(30, 30, 30))
        images[frame] = np.asarray(image.resize((WIDTH, HEIGHT), Image.Resampling.BOX))
    return images, (path / HEIGHT).astype(np.float32)


def cold(dataset: Dataset, cache: Path) -> float:
    forget(dataset.root)
    started = perf_counter()
    frames = open_frames(dataset, CAMERA, cache)
    for rows in random_batches(dataset.info.total_frames):
        frames.rows(rows)
    return dataset.info.total_frames / (perf_counter() - started)


def uncached(dataset: Dataset, batches: int = 4) -> float:
    forget(dataset.root)
    batches_read = random_batches(dataset.info.total_frames)[:batches]
    started = perf_counter()
    for rows in batches_read:
        dataset.frames(f"observation.images.{CAMERA}", rows)
    return sum(map(len, batches_read)) / (perf_counter() - started)


def warm(dataset: Dataset, cache: Path, seconds: float = 2.0) -> float:
    frames, batches = open_frames(dataset, CAMERA, cache), random_batches(dataset.info.total_frames)
    read, started = 0, perf_counter()
    while perf_counter() - started < seconds:
        read += len(frames.rows(batches[read // BATCH % (len(batches) - 1)]))
    return read / (perf_counter() - started)


def random_batches(total: int) -> list[np.ndarray]:
    order = np.random.default_rng(0).permutation(total)
    return np.split(order, range(BATCH, total, BATCH))


def forget(root: Path) -> None:
    """Let the operating system drop what it keeps of these files in memory."""
    for path in filter(Path.is_file, root.rglob("*")):
        with path.open("rb") as handle:
            os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


class CheapVisionEncoder:
    """Stands in for a model's vision encoder: as many numbers a frame, computed in no time."""

    def __init__(self, width: int) -> None:
        self.identity, self.width, self.encoding_width = "cheap", width, width

    def encode(self, images: Mapping[str, np.ndarray], instructions: Sequence[str]) -> np.ndarray:
        """Return some of the pixels."""
        flat = images[CAMERA].reshape(len(instructions), -1)
        return flat[:, : 97 * self.width : 97].astype(np.float32) / 255

    def track(self, before: np.ndarray | None, encodings: np.ndarray) -> np.ndarray:
        """Return the encodings: nothing is tracked."""
        return encodings


def sft_wait_share(dataset: Dataset, folder: Path, updates: int = 200) -> float:
    """Return the part of Stage 1 that the built-in model waits for its inputs."""
    from nearer.algorithm.demonstrations import Demonstrations
    from nearer.algorithm.sft import sft
    from nearer.algorithm.sft_settings import SFTTraining
    from nearer.datasets.demonstration_loading import load_demonstrations
    from nearer.models.factory import new_model
    from nearer.models.settings import SmallVLAConfig
    from nearer.runs.run import Run

    data = load_demonstrations(dataset)
    model = new_model("small-vla", SmallVLAConfig(), data.spaces, data.instructions, 0)
    assert model.vision_encoder is not None
    data = load_demonstrations(
        dataset, CheapVisionEncoder(model.vision_encoder.width), cache=folder / "cache-features"
    )
    model.normalise_by(data.inputs(slice(None)), data.actions[data.acted_frames()])
    training = SFTTraining(updates=updates, validate_every=updates)
    waited_s = 0.0
    inputs = Demonstrations.inputs

    def timed(self: Demonstrations, rows: Any) -> Any:
        nonlocal waited_s
        started = perf_counter()
        result = inputs(self, rows)
        waited_s += perf_counter() - started
        return result

    Demonstrations.inputs = timed
    try:
        with Run.create(folder / "run", "sft", {}) as run:
            started = perf_counter()
            split = split_by_episode(data, training.val_fraction, training.seed)
            sft(training, *split, model, run)
            return waited_s / (perf_counter() - started)
    finally:
        Demonstrations.inputs = inputs


def limited(root: Path, cache: Path) -> dict[str, float]:
    """Measure the memory of decoding and reading in a process of its own."""
    command = [sys.executable, __file__, "--measure-memory", str(root), str(cache)]
    # The limit counts what allocators reserve and never use: 1 GB for Arrow, 64 MB a thread.
    reserving = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1"}
    environment = {**os.environ, **reserving}
    done = subprocess.run(
        command,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=small_stacks,
    )
    return json.loads(done.stdout.splitlines()[-1])


def small_stacks() -> None:
    """Let a thread reserve little: the limit counts the 8 MB that each of them never uses."""
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_STACK)
    resource.setrlimit(resource.RLIMIT_STACK, (1 << 19, most))


def memory_of(root: Path, cache: Path) -> dict[str, float]:
    import resource

    dataset = open_dataset(root)
    decoded = dataset.info.total_frames * HEIGHT * WIDTH * 3
    limit = max(decoded // 2, 256 << 20)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    peak = [0]
    threading.Thread(target=watch_memory, args=(peak,), daemon=True).start()
    frames = open_frames(dataset, CAMERA, cache)
    for rows in random_batches(dataset.info.total_frames):
        frames.rows(rows)
    mib = 1 << 20
    return {
        "peak_memory_mib": peak[0] / mib,
        "memory_limit_mib": limit / mib,
        "decoded_mib": decoded / mib,
    }


def watch_memory(peak: list[int]) -> None:
    """Keep the most memory that this process has had, without the pages of files."""
    while True:
        lines = Path("/proc/self/status").read_text().splitlines()
        anonymous_kib = next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
        peak[0] = max(peak[0], anonymous_kib * 1024)
        sleep(0.005)


if __name__ == "__main__":
    main()
