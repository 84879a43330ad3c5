"""The section with films of the same starts, side by side: Stage 1 left, Stage 2 right."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nearer.core.errors import ConfigError
from nearer.evaluation.success import EpisodeResult
from nearer.reporting.html.headline import evaluate_command
from nearer.reporting.html.markup import Html, missing, paragraph, section, tag, text
from nearer.reporting.html.run_data import Report, RunFacts
from nearer.reporting.html.svg import STAGE_1, stage_two_colour

MOST_BYTES = 4_000_000
"""What all films and stills of a page may weigh in it, so that the page stays below 5 MB."""

_SAME = "The same starts, before and after"
_ONE = "Films of the first starts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """A run's film of one start.

    Attributes:
        name: of its stage; of its run too, where a stage has several.
        num_steps: control steps in the film; less than the time limit after a failure means that
            the env ended it.
        mp4: the film, in base64.
        still: its first picture, JPEG in base64; empty where there is none.
    """

    name: str
    colour: str
    result: EpisodeResult
    num_steps: int
    max_steps: int
    mp4: str
    still: str

    @property
    def verdict(self) -> str:
        """Return how it ended, in words."""
        if self.result.success:
            return f"success after {self.result.num_steps:,} steps"
        if self.num_steps < self.max_steps:
            return f"ended by the env after {self.num_steps:,} steps, without success"
        return f"not within {self.max_steps:,} steps"


def side_by_side(report: Report) -> Html:
    """Return the first starts of the evaluations, each as every policy went about it."""
    runs = _named_runs(report)
    starts = _starts([clip for run in runs for clip in _clips(*run)])
    sentences = [_how_to_film(facts) for _, _, facts in runs if not _has_films(facts)]
    if not starts:
        return section("rollouts", _ONE, *sentences)
    shown = _that_fit(starts)
    columns = max(len(clips) for clips in shown)
    cards = tag("div", *map(_card, shown), css="starts many" if columns > 2 else "starts")
    lead = paragraph(_lead(len(shown), len(starts)), "lead")
    return section("rollouts", _SAME if columns > 1 else _ONE, lead, cards, *sentences)


def _lead(num_shown: int, num_starts: int) -> str:
    words = (
        f"The first {num_shown} starts of the evaluation: none was picked. A film runs at the "
        "robot's own speed and begins again; a green frame around its last picture says that the "
        "simulator calls the instruction fulfilled."
    )
    if num_shown < num_starts:
        words += f" Left out, to keep the page light: {num_starts - num_shown} more."
    return words


def _named_runs(report: Report) -> list[tuple[str, str, RunFacts]]:
    """Return name, colour and facts of every run, Stage 1 first."""
    first = [("Stage 1", STAGE_1, run.facts) for run in report.stage_one]
    second = [("Stage 2", stage_two_colour(run.index), run.facts) for run in report.stage_two]
    return [
        (f"{stage}: {facts.name}" if len(runs) > 1 else stage, colour, facts)
        for runs in (first, second)
        for stage, colour, facts in runs
    ]


def _folder(facts: RunFacts) -> Path:
    return facts.root / "eval" / "videos"


def _has_films(facts: RunFacts) -> bool:
    return facts.evaluated is not None and any(_folder(facts).glob("*.mp4"))


def _how_to_film(facts: RunFacts) -> Html:
    if facts.evaluated is None:
        return missing(f"No rollouts of {facts.name} yet; make them with ", evaluate_command(facts))
    return missing(
        f"No films of {facts.name}; they come with ",
        evaluate_command(facts),
        " where the env draws pictures for people (render_mode rgb_array).",
    )


def _clips(name: str, colour: str, facts: RunFacts) -> list[Clip]:
    """Return a run's films, in the order of its starts."""
    if facts.evaluated is None:
        return []
    evaluation = facts.evaluated.evaluation
    chunk = max((one.chunk for one in facts.evaluated.rollouts), default=1)
    steps = [one.num_steps for one in facts.evaluated.rollouts]
    return [
        Clip(
            name=name,
            colour=colour,
            result=result,
            num_steps=steps[index] if index < len(steps) else result.num_steps,
            max_steps=evaluation.max_steps // chunk * chunk,  # what whole chunks could use of it
            mp4=_base64(path),
            still=_base64(path.with_suffix(".jpg")),
        )
        for index, result in enumerate(evaluation.results)
        if (path := _folder(facts) / f"{index}.mp4").is_file()
    ]


def _base64(path: Path) -> str:
    """Return a file's bytes as base64; nothing where there is no such file."""
    try:
        return b64encode(path.read_bytes()).decode("ascii") if path.is_file() else ""
    except OSError as error:
        raise ConfigError(
            f"{path} must be a file that can be read, got: {error.strerror}; make it again with "
            "nearer eval"
        ) from error


def _starts(clips: Sequence[Clip]) -> list[list[Clip]]:
    """Return the clips of each start together; a start is a seed and what was asked."""
    grouped: dict[tuple[int, str], list[Clip]] = {}
    for clip in clips:
        grouped.setdefault((clip.result.seed, clip.result.instruction), []).append(clip)
    return list(grouped.values())


def _that_fit(starts: Sequence[list[Clip]]) -> list[list[Clip]]:
    """Return as many starts as the page may hold, one at least."""
    shown: list[list[Clip]] = []
    total = 0
    for clips in starts:
        total += sum(len(clip.mp4) + len(clip.still) for clip in clips)
        if shown and total > MOST_BYTES:
            break
        shown.append(clips)
    return shown


def _card(clips: list[Clip]) -> Html:
    """Return one start: what was asked, and how every policy went about it."""
    asked = clips[0].result.instruction or f"seed {clips[0].result.seed}"
    return tag(
        "article",
        tag("h3", text(f"“{asked}”" if clips[0].result.instruction else asked)),
        tag("div", *(_figure(clip, asked) for clip in clips), css="films"),
        css="start",
    )


def _figure(clip: Clip, asked: str) -> Html:
    name = tag("span", text(clip.name), css="stage", style=f"color:{clip.colour}")
    mark = tag("b", text("✓" if clip.result.success else "✗"), css="mark")
    video = tag(
        "video",
        src=f"data:video/mp4;base64,{clip.mp4}",
        **({"poster": f"data:image/jpeg;base64,{clip.still}"} if clip.still else {}),
        **{"aria-label": f"{clip.name}, {asked}: {clip.verdict}"},
        **dict.fromkeys(("autoplay", "muted", "loop", "controls", "playsinline"), ""),
    )
    verdict = tag("span", mark, text(f" {clip.verdict}"), css="done" if clip.result.success else "")
    return tag("figure", video, tag("figcaption", name, verdict))
