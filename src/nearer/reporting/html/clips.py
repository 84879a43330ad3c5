"""The section with videos of the same starts, side by side: Stage 1 left, Stage 2 right."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nearer.core.errors import ConfigError
from nearer.evaluation.success import EpisodeResult
from nearer.reporting.html.colours import STAGE_1, stage_two_colour
from nearer.reporting.html.markup import Html, missing, paragraph, section, tag, text
from nearer.reporting.html.run_data import Report, RunData
from nearer.reporting.html.summary import evaluate_command, no_rollouts

MAX_BYTES = 4_000_000
"""Limit on all videos and posters of a page, in base64, so that the page stays below 5 MB."""

_PAIRED_TITLE = "Videos of the same starts, before and after practice"
_TITLE = "Videos of the first starts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """A run's video of one start.

    Attributes:
        name: of the stage, and of the run where a stage has several.
        num_steps: control steps in the video; fewer than the time limit after a failure mean that
            the env ended the episode.
        mp4: the video, in base64.
        poster: its first image, JPEG in base64; empty where there is none.
    """

    name: str
    colour: str
    result: EpisodeResult
    num_steps: int
    max_steps: int
    mp4: str
    poster: str

    @property
    def outcome(self) -> str:
        """Return in words how the episode ended."""
        if self.result.success:
            return f"success after {self.result.num_steps:,} steps"
        if self.num_steps < self.max_steps:
            return f"ended by the env after {self.num_steps:,} steps without success"
        return f"no success within {self.max_steps:,} steps"


def side_by_side(report: Report) -> Html:
    """Return videos of the first starts of the evaluations, policies side by side."""
    runs = _named_runs(report)
    starts = _starts([clip for run in runs for clip in _clips(*run)])
    sentences = [_no_videos(run) for _, _, run in runs if not _has_videos(run)]
    if not starts:
        return section("rollouts", _TITLE, *sentences)
    shown = _that_fit(starts)
    columns = max(len(clips) for clips in shown)
    cards = tag("div", *map(_card, shown), css="starts many" if columns > 2 else "starts")
    lead = paragraph(_lead(len(shown), len(starts)), "lead")
    return section("rollouts", _PAIRED_TITLE if columns > 1 else _TITLE, lead, cards, *sentences)


def _lead(num_shown: int, num_starts: int) -> str:
    words = (
        f"The first {num_shown} starts of the evaluation, not selected. Videos run at the speed of "
        "the robot and repeat; a green border around the last image marks success by ground "
        "truth."
    )
    if num_shown < num_starts:
        words += f" {num_starts - num_shown} more are left out to keep the page small."
    return words


def _named_runs(report: Report) -> list[tuple[str, str, RunData]]:
    """Return name, colour and data of every run, Stage 1 first."""
    first = [("Stage 1", STAGE_1, run) for run in report.stage_one]
    second = [("Stage 2", stage_two_colour(run.index), run) for run in report.stage_two]
    return [
        (f"{stage}: {run.name}" if len(runs) > 1 else stage, colour, run)
        for runs in (first, second)
        for stage, colour, run in runs
    ]


def _folder(run: RunData) -> Path:
    return run.root / "eval" / "videos"


def _has_videos(run: RunData) -> bool:
    return run.evaluated is not None and any(_folder(run).glob("*.mp4"))


def _no_videos(run: RunData) -> Html:
    if run.evaluated is None:
        return no_rollouts(run)
    return missing(
        f"No videos of run {run.name}; they come with ",
        evaluate_command(run),
        " where the env renders images (render_mode rgb_array).",
    )


def _clips(name: str, colour: str, run: RunData) -> list[Clip]:
    """Return the videos of a run in the order of its starts."""
    if run.evaluated is None:
        return []
    evaluation = run.evaluated.evaluation
    chunk = max((rollout.chunk for rollout in run.evaluated.rollouts), default=1)
    steps = [rollout.num_steps for rollout in run.evaluated.rollouts]
    return [
        Clip(
            name=name,
            colour=colour,
            result=result,
            num_steps=steps[index] if index < len(steps) else result.num_steps,
            max_steps=evaluation.max_steps // chunk * chunk,  # whole chunks only
            mp4=_base64(path),
            poster=_base64(path.with_suffix(".jpg")),
        )
        for index, result in enumerate(evaluation.results)
        if (path := _folder(run) / f"{index}.mp4").is_file()
    ]


def _base64(path: Path) -> str:
    """Return the bytes of a file as base64; empty where there is no such file."""
    try:
        return b64encode(path.read_bytes()).decode("ascii") if path.is_file() else ""
    except OSError as error:
        raise ConfigError(
            f"{path} must be a file that can be read, got: {error.strerror}; make it again with "
            "nearer eval"
        ) from error


def _starts(clips: Sequence[Clip]) -> list[list[Clip]]:
    """Return the clips grouped by start, which is a seed and an instruction."""
    grouped: dict[tuple[int, str], list[Clip]] = {}
    for clip in clips:
        grouped.setdefault((clip.result.seed, clip.result.instruction), []).append(clip)
    return list(grouped.values())


def _that_fit(starts: Sequence[list[Clip]]) -> list[list[Clip]]:
    """Return as many starts as fit into MAX_BYTES, at least one."""
    shown: list[list[Clip]] = []
    total = 0
    for clips in starts:
        total += sum(len(clip.mp4) + len(clip.poster) for clip in clips)
        if shown and total > MAX_BYTES:
            break
        shown.append(clips)
    return shown


def _card(clips: list[Clip]) -> Html:
    """Return one start: its instruction and a video of every policy."""
    result = clips[0].result
    title = f"“{result.instruction}”" if result.instruction else f"seed {result.seed}"
    return tag(
        "article",
        tag("h3", text(title)),
        tag("div", *(_figure(clip, title) for clip in clips), css="videos"),
        css="start",
    )


def _figure(clip: Clip, title: str) -> Html:
    name = tag("span", text(clip.name), css="stage", style=f"color:{clip.colour}")
    mark = tag("b", text("✓" if clip.result.success else "✗"), css="mark")
    video = tag(
        "video",
        src=f"data:video/mp4;base64,{clip.mp4}",
        **({"poster": f"data:image/jpeg;base64,{clip.poster}"} if clip.poster else {}),
        **{"aria-label": f"{clip.name}, {title}: {clip.outcome}"},
        **dict.fromkeys(("autoplay", "muted", "loop", "controls", "playsinline"), ""),
    )
    outcome = tag("span", mark, text(f" {clip.outcome}"), css="done" if clip.result.success else "")
    return tag("figure", video, tag("figcaption", name, outcome))
