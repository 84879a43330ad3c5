"""Every study of `nearer reproduce`: what it shows, what it costs, which seeds are done."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from nearer.configs.reproduce import ReproduceConfig, StudyName
from nearer.core.callbacks import ProgressCallback
from nearer.models.pointing.weights import UNET, load_pointing
from nearer.runs.json_files import read_document, write_document
from nearer.studies.aloha import reproduce_aloha
from nearer.studies.banana import reproduce_banana
from nearer.studies.headline import reproduce
from nearer.studies.headline_results import headline_table
from nearer.studies.metaworld import reproduce_metaworld
from nearer.studies.pretraining_ablation import reproduce_pretraining
from nearer.studies.pretraining_results import pretraining_table
from nearer.studies.real2sim import reproduce_real2sim
from nearer.studies.stage_success import stages_table
from nearer.studies.transfer import reproduce_transfer

_REFERENCE_FRAME_MS = 3.0
"""CPU time of encoding a frame, four at a time on one thread, on the core of `Study.minutes`."""
_FRAMES, _ROUNDS = 4, 5
_DONE = "done.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """One study of `nearer reproduce`.

    Attributes:
        shows: in a few words.
        minutes: of one core of an AMD EPYC, a seed, with the default settings; summed up from what
            one data set, Stage 1, practice and evaluation took there.
        run: runs what is missing, and returns the table.
    """

    name: StudyName
    shows: str
    minutes: float
    run: Callable[[ReproduceConfig, ProgressCallback], str]

    def seeds_done(self, config: ReproduceConfig) -> tuple[int, ...]:
        """Return the seeds whose results are all on disk.

        Raises:
            ConfigError: the file that says so is damaged.
        """
        return _done(config.out).get(self.name, ())

    def run_by_seed(self, config: ReproduceConfig, on_progress: ProgressCallback) -> str:
        """Run what is missing, note each seed once it is whole, and return the table."""
        table = ""
        for count, seed in enumerate(config.seeds, 1):
            # Earlier seeds are read from disk: tables and figures are of all so far.
            table = self.run(replace(config, seeds=config.seeds[:count]), on_progress)
            done = _done(config.out)
            of_study = tuple(sorted({*done.get(self.name, ()), seed}))
            write_document(config.out / _DONE, SeedsDone(seeds={**done, self.name: of_study}))
        return table


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedsDone:
    """Which seeds are done, by study."""

    seeds: Mapping[str, tuple[int, ...]]


def _done(folder: Path) -> Mapping[str, tuple[int, ...]]:
    path = folder / _DONE
    if not path.exists():
        return {}
    advice = "remove it, and it is written anew"
    return read_document(SeedsDone, path, advice).seeds


STUDIES: Sequence[Study] = (
    Study(
        name="headline",
        shows="few demonstrations and practice against many demonstrations",
        minutes=115,
        run=lambda config, say: headline_table(reproduce(config, say)),
    ),
    Study(
        name="pretraining",
        shows="whose reward is worth practising with",
        minutes=330,
        run=lambda config, say: pretraining_table(reproduce_pretraining(config, say)),
    ),
    Study(
        name="transfer",
        shows="what practice of one family of instructions does for the others",
        minutes=45,
        run=lambda config, say: stages_table(reproduce_transfer(config, say)),
    ),
    Study(
        name="banana",
        shows="a new object, after the practice of transfer",
        minutes=55,
        run=lambda config, say: stages_table(reproduce_banana(config, say)),
    ),
    Study(
        name="real2sim",
        shows="Stage 1 in one look, practice in another",
        minutes=85,
        run=lambda config, say: stages_table(reproduce_real2sim(config, say)),
    ),
    Study(
        name="aloha",
        shows="two arms: practice against three times the demonstrations",
        minutes=200,  # those of images, some 120, are an estimate
        run=lambda config, say: stages_table(reproduce_aloha(config, say)),
    ),
    Study(
        name="metaworld",
        shows="three tasks of another simulator",
        minutes=30,
        run=lambda config, say: stages_table(reproduce_metaworld(config, say)),
    ),
)
"""In the order in which they are run: later ones go on with what earlier ones left."""


def chosen(config: ReproduceConfig) -> list[Study]:
    """Return the studies that `which` names."""
    return [study for study in STUDIES if config.which in ("all", study.name)]


def slowness() -> float:
    """Return how much longer this machine takes than the one of `Study.minutes`, measured now.

    On one thread: several that wait for a busy core would be counted as work.
    """
    tower = load_pointing(UNET)
    images = torch.zeros(_FRAMES, 96, 128, 3, dtype=torch.uint8)
    seconds: list[float] = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            for _ in range(_ROUNDS):
                started = time.process_time()
                tower.keys(images)
                seconds.append(time.process_time() - started)
    finally:
        torch.set_num_threads(threads)
    return 1e3 * min(seconds) / _FRAMES / _REFERENCE_FRAME_MS


def listing(config: ReproduceConfig, slower: float) -> str:
    """Return a line a study: what it shows, hours of one core here, seeds that are done.

    Args:
        config: its seeds and its folder; every study is listed, whichever it names.
        slower: see `slowness`.
    """
    lines = ["| study | shows | hours of a core here | seeds done |", "|---|---|---|---|"]
    for study in STUDIES:
        done = study.seeds_done(config)
        left = [seed for seed in config.seeds if seed not in done]
        hours = study.minutes * len(left) * slower / 60
        seeds = ", ".join(map(str, done)) or "none"
        lines.append(f"| {study.name} | {study.shows} | {hours:.1f} | {seeds} |")
    return "\n".join(lines)
