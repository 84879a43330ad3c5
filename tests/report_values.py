"""Values that tests of the report change, and the text that a reader of its HTML sees."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nearer.core.metrics import Record
from nearer.evaluation.success import EpisodeResult, Evaluation
from nearer.reporting.html.run_data import Evaluated, Report, Rollout, StageOne, StageTwo

ENV_ID = "nearer/PointMass-v0"
EVIL = "<script>alert('pwned')</script> & <b>bold</b>"
MAX_STEPS = 140


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """A run of each stage; the second started from the first."""

    stage_one: Path
    stage_two: Path

    @property
    def both(self) -> tuple[Path, Path]:
        return self.stage_one, self.stage_two


def words(html: str) -> str:
    """Return what a reader sees, without markup and with single spaces."""
    parser = _Text()
    parser.feed(re.sub(r"<style.*?</style>", "", html, flags=re.DOTALL))
    return " ".join(" ".join(parser.seen).split())


class _Text(HTMLParser):
    """Collects the text between tags."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def handle_data(self, data: str) -> None:
        self.seen.append(data)


def painted(paint: Callable[[Axes], None]) -> Axes:
    """Return the axes that a figure was painted on."""
    axes = Figure().add_subplot()
    paint(axes)
    return axes


def labels(axes: Axes) -> list[str]:
    """Return the words that stand in a figure."""
    return [text.get_text() for text in axes.texts]


def results(
    outcomes: Sequence[tuple[str, bool]], *, num_steps: int = 10, seed: int = 0
) -> tuple[EpisodeResult, ...]:
    """Return evaluation episodes by instruction and success; failures take MAX_STEPS."""
    return tuple(
        EpisodeResult(
            seed=100 * seed + index,
            instruction=instruction,
            success=success,
            num_steps=num_steps if success else MAX_STEPS,
            actions_outside=0,
        )
        for index, (instruction, success) in enumerate(outcomes)
    )


def evaluated(
    outcomes: Sequence[tuple[str, bool]],
    *,
    num_steps: int = 10,
    seed: int = 0,
    env: str = ENV_ID,
    rollouts: Sequence[Rollout] = (),
) -> Evaluated:
    """Return an evaluation by instruction and success of each start."""
    evaluation = Evaluation(
        results=results(outcomes, num_steps=num_steps, seed=seed),
        seed=seed,
        max_steps=MAX_STEPS,
        seconds=2.0,
    )
    return Evaluated(env=env, evaluation=evaluation, rollouts=tuple(rollouts))


def solving(successes: int, episodes: int) -> list[tuple[str, bool]]:
    """Return outcomes of one instruction of which the first succeed."""
    return [("touch the goal", index < successes) for index in range(episodes)]


def rollout(num_steps: int, *, success: bool = True, chunk: int = 1) -> Rollout:
    """Return a straight path of the point mass."""
    rows = num_steps // chunk + 1
    positions = np.linspace(0, 0.5, rows)
    return Rollout(
        agent_pos=np.stack([positions, positions, 0 * positions, 0 * positions], axis=1),
        environment_state=np.full((rows, 2), 0.5),
        success=success,
        chunk=chunk,
    )


def report_of(stage_one: Sequence[StageOne], stage_two: Sequence[StageTwo]) -> Report:
    """Return the report of these runs."""
    return Report(stage_one=tuple(stage_one), stage_two=tuple(stage_two))


def pair(report: Report, before: Evaluated | None, after: Evaluated | None) -> Report:
    """Return the report with these evaluations of its first run of each stage."""
    stage_one = replace(report.stage_one[0], evaluated=before)
    stage_two = replace(report.stage_two[0], evaluated=after, before=stage_one)
    return report_of([stage_one], [stage_two])


def practice_records(num_iterations: int, **changes: float) -> list[Record]:
    """Return metrics of Stage 2 that rise with the iterations, ten episodes each."""
    return [
        {
            "step": step,
            "practice/episodes": 10 * step,
            "practice/env_steps": 500 * step,
            "practice/iteration_episodes": 10,
            "practice/iteration_env_steps": 500,
            "practice/detected_success": 0.8,
            "practice/episode_length": 50.0,
            "practice/progress_steps": 30.0,
            "practice/return": 5.0,
            "time/elapsed_s": float(step),
            **changes,
        }
        for step in range(1, num_iterations + 1)
    ]
