"""The section on perception: believed and true positions over frames, and how often they differ."""

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import UInt8

from nearer.core.arrays import Array
from nearer.evaluation.perception import NEAR_M, WRONG_M, ObjectErrors, WrongFrames
from nearer.evaluation.perception_document import (
    LocatedObject,
    Perception,
    PerceptionFrame,
    png,
    read_frames,
)
from nearer.reporting.html.colours import STAGE_1, stage_two_colour
from nearer.reporting.html.markup import (
    NOTHING,
    Html,
    join,
    legend,
    paragraph,
    percent,
    raw,
    section,
    table,
    tag,
    text,
)
from nearer.reporting.html.run_data import Report, RunData

_WRONG_MM, _NEAR_MM = round(1e3 * WRONG_M), round(1e3 * NEAR_M)
_MIN_OPACITY = 0.15  # of a believed position, so that an improbable one can be found


class _Slot(NamedTuple):
    """An object of a frame: its name, and the colour of its markers, which no block has."""

    name: str
    colour: str


_SLOTS = (
    _Slot("first object", "#e800b9"),
    _Slot("second object", "#00b8d4"),
    _Slot("effector", "#ff7a00"),
)
_GROUPS: Mapping[str, Callable[[ObjectErrors], WrongFrames]] = {
    "All frames": lambda errors: errors.all,
    "Covered by the effector": lambda errors: errors.covered,
    f"Within {_NEAR_MM} mm of it": lambda errors: errors.near,
    "Far from it": lambda errors: errors.far,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatedEncoder:
    """What the vision encoder of an evaluated policy saw, with the policy's name and colour."""

    name: str
    colour: str
    run: RunData
    perception: Perception


def perception(report: Report) -> Html:
    """Return rates of wrong positions and frames; nothing where no evaluation recorded any."""
    encoders = _encoders(report)
    if not encoders:
        return NOTHING
    frames = [part for index, encoder in enumerate(encoders) for part in _frames(index, encoder)]
    return section(
        "perception",
        "Perception: where the policy sees the objects",
        paragraph(_lead(), "lead"),
        table(("Object", "Policy", *_GROUPS, "Median error, if not wrong"), _rows(encoders)),
        paragraph(_table_words(encoders), "range"),
        *frames,
    )


def _lead() -> str:
    return (
        f"Fraction of frames in which a named object is believed to be more than {_WRONG_MM} mm "
        "from where it is on the table. True positions come from the simulator and are used in "
        "evaluation only; the policy never sees them."
    )


def _table_words(encoders: Sequence[EvaluatedEncoder]) -> str:
    episodes = " and ".join(f"{each.perception.episodes:,}" for each in encoders)
    return (
        f"n counts frames, of {episodes} episodes; the 95 % intervals take into account that "
        "frames of one episode are alike. An object is covered where the effector stands between "
        "it and the camera; the next two groups are the other frames."
    )


def _encoders(report: Report) -> list[EvaluatedEncoder]:
    """Return the evaluated policies with recorded perception, Stage 1 first."""
    stages: list[list[tuple[RunData, str]]] = [
        [(run, STAGE_1) for run in report.stage_one],
        [(run, stage_two_colour(run.index)) for run in report.stage_two],
    ]
    return [
        EvaluatedEncoder(
            name=f"Stage {stage}: {run.name}" if len(runs) > 1 else f"Stage {stage}",
            colour=colour,
            run=run,
            perception=run.evaluated.perception,
        )
        for stage, runs in enumerate(stages, start=1)
        for run, colour in runs
        if run.evaluated and run.evaluated.perception
    ]


def _rows(encoders: Sequence[EvaluatedEncoder]) -> list[list[Html]]:
    """Return a row a named object and policy, a cell a group of frames."""
    named = [("first object", each, each.perception.first) for each in encoders]
    named += [("second object", each, each.perception.second) for each in encoders]
    return [
        [
            text(name),
            tag("b", text(encoder.name), style=f"color:{encoder.colour}"),
            *(_wrong_cell(group(errors)) for group in _GROUPS.values()),
            text("–" if errors.median_mm is None else f"{errors.median_mm:.1f} mm"),
        ]
        for name, encoder, errors in named
        if errors.all.frames
    ]


def _wrong_cell(rate: WrongFrames) -> Html:
    if not rate.frames:
        return join(tag("b", text("–")), tag("small", text("no frames")))
    low, high = rate.ci95
    return join(
        tag("b", text(percent(rate.value))),
        tag("small", text(f"{100 * low:.1f} to {100 * high:.1f} %")),
        tag("small", text(f"n = {rate.frames:,}")),
    )


def _frames(index: int, encoder: EvaluatedEncoder) -> list[Html]:
    """Return the frames of a policy: those evenly spaced, then those with the largest errors."""
    shown = encoder.perception
    images = read_frames(encoder.run.root / "eval", shown)
    parts = [tag("h3", text(encoder.name), css="run", style=f"color:{encoder.colour}")]
    if index == 0:
        parts += [paragraph(_frames_words(), "lead"), _legend()]
    for rule, title in (
        ("evenly spaced", "The first episodes, frames evenly spaced from first to last"),
        ("largest error", "The largest errors, one frame an episode"),
    ):
        figures = [
            _figure(frame, image, shown)
            for frame, image in zip(shown.frames, images, strict=True)
            if frame.rule == rule
        ]
        if figures:
            parts += [paragraph(title, "stage"), tag("div", *figures, css="frames")]
    return parts


def _frames_words() -> str:
    return (
        "Frames as the vision encoder is given them, enlarged. A dot is the likeliest position, "
        "more opaque where it is more probable; a ring is the true position where the object "
        "stands on the table; a line joins the two."
    )


def _legend() -> Html:
    return legend(
        *(("●", slot.colour, slot.name) for slot in _SLOTS),
        ("●", "", "believed"),
        ("○", "", "true"),
    )


def _figure(frame: PerceptionFrame, image: UInt8[Array, "h w 3"], shown: Perception) -> Html:
    """Return a frame with its markers; its caption has the instruction and the errors."""
    instruction = f"“{frame.instruction}”, step {frame.step}"
    named = zip(frame.objects[:2], ("first", "second"), strict=True)
    errors = " · ".join(
        f"{name} {located.error_mm:.0f} mm off" for located, name in named if located
    )
    caption = tag("figcaption", tag("span", text(instruction)), tag("span", text(errors)))
    return tag("figure", _svg(frame, image, shown, f"{instruction}: {errors}"), caption)


def _svg(
    frame: PerceptionFrame, image: UInt8[Array, "h w 3"], shown: Perception, description: str
) -> Html:
    """Return a frame as an SVG whose unit is a pixel of the frame."""
    height, width = shown.height, shown.width
    picture = tag(
        "image",
        href=f"data:image/png;base64,{b64encode(png(image)).decode('ascii')}",
        width=str(width),
        height=str(height),
    )
    markers = [
        _markers(located, slot.colour, width, height)
        for located, slot in zip(frame.objects, _SLOTS, strict=True)
        if located
    ]
    return tag(
        "svg",
        picture,
        *markers,
        css="frame",
        viewBox=f"0 0 {width} {height}",
        role="img",
        **{"aria-label": description},
    )


def _markers(located: LocatedObject, colour: str, width: int, height: int) -> Html:
    """Return the markers of an object; their sizes are relative to a frame 96 pixels high."""
    unit = height / 96
    x, y = located.believed.u * width, located.believed.v * height
    true_x, true_y = located.true.u * width, located.true.v * height
    opacity = max(_MIN_OPACITY, located.believed.probability)
    return raw(
        f'<line x1="{x:.2f}" y1="{y:.2f}" x2="{true_x:.2f}" y2="{true_y:.2f}" '
        f'stroke="{colour}" stroke-width="{0.6 * unit:.2f}"/>'
        f'<circle cx="{true_x:.2f}" cy="{true_y:.2f}" r="{3.4 * unit:.2f}" fill="none" '
        f'stroke="{colour}" stroke-width="{0.7 * unit:.2f}"/>'
        f'<circle cx="{x:.2f}" cy="{y:.2f}" r="{1.4 * unit:.2f}" fill="{colour}" '
        f'fill-opacity="{opacity:.2f}" stroke="#fff" stroke-width="{0.3 * unit:.2f}"/>'
    )
