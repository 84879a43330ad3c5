"""Sections of `accelerator.py` on the tabletop: Stage 2, and the built-in encoder's pretraining."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

import perception
from bench import Bench, Measurements, attempt
from device_meter import seconds_a_call
from nearer.algorithm.demonstrations import Demonstrations, split_by_episode
from nearer.algorithm.improve import Setup, improve
from nearer.algorithm.improve_metrics import AuditReport
from nearer.algorithm.model import Detector
from nearer.algorithm.rollout import LockstepSource
from nearer.algorithm.sft import sft
from nearer.commands.collect import collect_demonstrations
from nearer.core.arrays import Array
from nearer.core.callbacks import Progress, ignore_progress
from nearer.core.episode import Observation, ScoredEpisode
from nearer.core.seeds import Purpose, episode_seed
from nearer.datasets.demonstration_loading import load_demonstrations
from nearer.datasets.episodes import dataset_spaces
from nearer.datasets.lerobot.reader import open_dataset
from nearer.envs.tabletop.language import vocabulary
from nearer.fleets.for_model import fitting_fleet
from nearer.fleets.gym import make_fleet
from nearer.models.factory import build_model
from nearer.models.pointing.pretraining.settings import PretrainConfig
from nearer.models.pointing.pretraining.train import pretrain
from nearer.models.pointing.weights import LITE0, UNET, load_pointing, measures_json
from nearer.models.settings import SmallVLAConfig
from nearer.models.small_vla import SmallVLA
from nearer.runs.checkpoint import load_model
from nearer.runs.run import Run
from nearer.studies.tabletop import ENV_ID, tabletop
from sft_timing import MemoryRun

THRESHOLD_STEPS = 1.0
TIMES_CPU_BUDGET = 10
BATCHES_IN_ONE = 4
"""The device sees so many batches of the CPU's size at once, at the same learning rate."""
IMAGES_TIME_FRACTION = 0.25
PRETRAINING_TIME_FRACTION = 0.5
MEASURED_SCENES = 250
"""Of each kind; half as many as usual, since this processor draws them."""
DRAWING_S = 0.035
"""CPU time of an image, measured on a Xeon: 0.026."""
WARM_UPDATES, PROBED_UPDATES = 5, 25


class NoAudits:
    """Audits that never take place."""

    def check(self, iteration: int, scored: Sequence[ScoredEpisode]) -> AuditReport:
        """Return that nothing was compared."""
        return AuditReport()


class NoStore:
    """Keeps no episodes."""

    def read(self, iteration: int) -> list[ScoredEpisode]:
        """Return nothing."""
        return []

    def append(self, iteration: int, scored: Sequence[ScoredEpisode]) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How large the tabletop's sections are.

    Attributes:
        demonstrations: collected once, for all.
        sft_updates: of Stage 1.
        num_envs: tables in Stage 2.
        updates_per_iteration: of Stage 2.
        batch_size: samples of each.
        iterations: of Stage 2.
        max_steps: of an episode of Stage 2.
        frames: encoded at once, in turn.
        episodes: that encoders are compared on.
    """

    demonstrations: int = 100
    sft_updates: int = 500
    num_envs: int = 64
    updates_per_iteration: int = 16
    batch_size: int = 64
    iterations: int = 2
    max_steps: int = 60
    frames: tuple[int, ...] = (1, 16, 64, 256)
    episodes: int = 100


TINY = Sizes(
    demonstrations=4,
    sft_updates=4,
    num_envs=2,
    updates_per_iteration=1,
    batch_size=4,
    iterations=1,
    max_steps=4,
    frames=(1, 4),
    episodes=1,
)


def stage_two(bench: Bench) -> Measurements:
    """Encode and practise with the built-in encoder on the device, and on the CPU."""
    sizes = TINY if bench.tiny else Sizes()
    cpu = torch.device("cpu")
    run = _stage_one(UNET, bench, sizes)
    yield from attempt("encoding", _encoding(run, bench, sizes))
    for name, device in (("device", bench.device), ("cpu", cpu)):
        for key, value in attempt("practice", _practised(run, device, sizes)):
            yield f"{name}_{key}", value


def _encoding(run: Path, bench: Bench, sizes: Sizes) -> Measurements:
    """Yield the encoder's speed on both devices, and how far its peaks are apart."""
    most = max(sizes.frames)
    fleet = make_fleet(ENV_ID, most)
    starts = fleet.reset(np.arange(most), [episode_seed(Purpose.PRACTICE, i) for i in range(most)])
    fleet.close()
    assert isinstance(starts.observation, Observation), "nothing has encoded it"
    images, texts = starts.observation.images, list(starts.instructions)
    encodings: dict[str, Array] = {}
    for name, device in (("device", bench.device), ("cpu", torch.device("cpu"))):
        encoder = _loaded(run, "policy", device).vision_encoder
        assert encoder is not None
        encodings[name] = encoder.encode(images, texts)
        for count in sizes.frames:
            part = {camera: image[:count] for camera, image in images.items()}
            encode = _encoding_call(encoder.encode, part, texts[:count])
            yield f"{name}_frames_per_s_{count}", count / seconds_a_call(encode, device, 0.3)
    # u, v and probability of two peaks for each of three objects; the first one is what counts.
    first = {name: each.reshape(most, 3, 2, 3)[:, :, 0, :2] for name, each in encodings.items()}
    apart = np.abs(first["device"] - first["cpu"]).max(axis=2) * _width_px(images)
    yield "peak_px_median_difference", float(np.median(apart))
    yield "peak_px_p99_difference", float(np.quantile(apart, 0.99))


def _encoding_call(
    encode: Callable[..., Array], images: dict[str, Array], texts: list[str]
) -> Callable[[], Array]:
    return lambda: encode(images, texts)


def _width_px(images: Mapping[str, Array]) -> int:
    """Return the width in pixels of the images of the first camera."""
    return next(iter(images.values())).shape[2]


def _practised(run: Path, device: torch.device, sizes: Sizes) -> Measurements:
    """Yield the speed of Stage 2 with the encoder on a device; the small heads stay on the CPU."""
    policy = _loaded(run, "policy", device)
    reward = _loaded(run, "reward", device).requires_grad_(False)
    recipe = tabletop(run.parent).improve
    longest = sizes.updates_per_iteration * sizes.batch_size + sizes.num_envs * sizes.max_steps
    practice = replace(
        recipe.practice,
        max_env_steps=sizes.iterations * longest,
        updates_per_iteration=sizes.updates_per_iteration,
        batch_size=sizes.batch_size,
        max_steps=sizes.max_steps,
    )
    fleet = fitting_fleet(ENV_ID, sizes.num_envs, policy, reward)
    setup = Setup(
        source=LockstepSource(
            fleet=fleet,
            termination=Detector(model=reward, threshold_steps=THRESHOLD_STEPS),
            max_steps=sizes.max_steps,
            seed=0,
        ),
        reward_model=reward,
        threshold_steps=THRESHOLD_STEPS,
        store=NoStore(),
        audits=NoAudits(),
    )
    memory_run = MemoryRun()
    started = perf_counter()
    improve(practice, recipe.deviate, recipe.plateau, policy, setup, memory_run)
    seconds = perf_counter() - started
    fleet.close()
    steps = int(memory_run.kept[-1]["practice/env_steps"] or 0)
    yield "practice_env_steps", steps
    yield "practice_env_steps_per_s", steps / seconds


def pretraining(bench: Bench) -> Measurements:
    """Pretrain the built-in encoder for long, and compare it with the shipped one."""
    sizes = TINY if bench.tiny else Sizes()
    weights = bench.out / "weights"
    yield from _pretrained(weights, bench)
    for name, folder in (("shipped", LITE0), ("new", weights)):
        measures = measures_json(folder)
        numbers = {key: value for key, value in measures.items() if isinstance(value, int | float)}
        yield from ((f"{name}_{key}", value) for key, value in numbers.items())
    for name, folder in (("shipped", LITE0), ("new", weights)):
        yield from attempt(name, _perceived(name, folder, bench, sizes))


def _pretrained(out: Path, bench: Bench) -> Measurements:
    """Yield how long was pretrained; the weights are in `out`."""
    usual = PretrainConfig(network="lite0", device=bench.device.type)
    yield "device", bench.device.type
    if bench.tiny:
        config = replace(usual, updates=3, batch_size=4, images=8, measured=8, workers=1)
    else:
        workers = os.cpu_count() or 1
        config = replace(usual, measured=MEASURED_SCENES, workers=workers)
        drawn_s = bench.left_s * IMAGES_TIME_FRACTION
        images = min(usual.images, int(drawn_s * config.workers / DRAWING_S))
        config = replace(config, images=images, batch_size=BATCHES_IN_ONE * usual.batch_size)
        update_s = _seconds_an_update(replace(config, out=bench.scratch / "probe"))
        yield "seconds_an_update", update_s
        most = int(bench.left_s * PRETRAINING_TIME_FRACTION / update_s)
        wanted = TIMES_CPU_BUDGET * usual.updates // BATCHES_IN_ONE
        config = replace(config, updates=max(1, min(wanted, most)))
    started = perf_counter()
    pretrain(replace(config, out=out), ignore_progress)
    seen = config.updates * config.batch_size
    yield "seconds_pretraining", perf_counter() - started
    yield "times_cpu_budget", seen / (usual.updates * usual.batch_size)
    yield from (("updates", config.updates), ("batch_size", config.batch_size))
    yield "images", config.images


def _seconds_an_update(config: PretrainConfig) -> float:
    """Return the time of an update, by a short pretraining."""
    times: list[float] = []

    def note(progress: Progress) -> None:
        if progress.stage == "pretrain":
            times.append(perf_counter())

    updates = WARM_UPDATES + PROBED_UPDATES
    short = replace(config, images=2 * config.batch_size, updates=updates, measured=20)
    pretrain(short, note)
    return (times[-1] - times[WARM_UPDATES - 1]) / PROBED_UPDATES


def _perceived(name: str, weights: Path, bench: Bench, sizes: Sizes) -> Measurements:
    """Yield what benchmarks/perception.py measures of a policy with these weights."""
    model = _loaded(_stage_one(weights, bench, sizes), "policy", bench.device)
    seen = perception.act(model, ENV_ID, sizes.episodes, perception.TRIAL_SEED)
    measured = perception.measure(seen)
    yield from ((f"{name}_perception_{key}", value) for key, value in measured.items())


def _stage_one(weights: Path, bench: Bench, sizes: Sizes) -> Path:
    """Return a Stage-1 run of the built-in model with an encoder of these weights.

    The encoder is as it was pretrained: it does not train itself on the demonstrations' frames.
    """
    out = bench.scratch / f"sft_{weights.name}"
    if (out / "checkpoints" / "last").exists():
        return out
    model, data = _untrained(weights, bench, sizes)
    training = replace(
        tabletop(bench.scratch).sft.training,
        updates=sizes.sft_updates,
        validate_every=sizes.sft_updates,
        batch_size=16 if bench.tiny else 256,
        val_fraction=0.25,
    )
    train, val = split_by_episode(data, training.val_fraction, training.seed)
    with Run.create(out, "sft", {}) as run:
        sft(training, train, val, model, run)
        run.finish()
    return out


def _untrained(weights: Path, bench: Bench, sizes: Sizes) -> tuple[SmallVLA, Demonstrations]:
    """Return the built-in model before Stage 1, and demonstrations that its encoder has read."""
    folder = bench.scratch / "demonstrations"
    if not folder.exists():
        collect = tabletop(bench.scratch, episodes=sizes.demonstrations, quick=bench.tiny).collect
        collect_demonstrations(replace(collect, out=folder, num_envs=min(32, sizes.demonstrations)))
    dataset = open_dataset(folder)
    torch.manual_seed(0)
    model = SmallVLA(
        SmallVLAConfig(),
        dataset_spaces(dataset),
        vocabulary(),  # few demonstrations do not hold all words of the trial starts
        load_pointing(weights),
    )
    model.tower.to(bench.device)
    data = load_demonstrations(dataset, model.vision_encoder, cache=bench.scratch / "cache")
    model.normalise_by(data.statistics(), data.actions[data.acted_frames()])
    return model, data


def _loaded(run: Path, link: str, device: torch.device) -> SmallVLA:
    """Return a run's model with its encoder on a device."""
    model = load_model(run, build_model, link)
    assert isinstance(model, SmallVLA)
    model.tower.to(device)
    return model
