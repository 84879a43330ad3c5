"""The section on instructions: success by instruction, or by word where there are many."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from nearer.core.intervals import Rate
from nearer.evaluation.success import EpisodeResult
from nearer.reporting.html.colours import INK, STAGE_1, stage_two_colour
from nearer.reporting.html.markup import (
    NOTHING,
    Html,
    aside,
    grid,
    legend,
    panel,
    section,
    tag,
    whole,
)
from nearer.reporting.html.run_data import Report, RunData
from nearer.reporting.html.svg import Paint, figure

_MAX_INSTRUCTIONS = 12  # have a row each; more of them are grouped by their words
_MAX_WORDS = 24
_MIN_STARTS = 10  # with a word; fewer give an interval too wide to be of use
_MAX_FRACTION = 0.9  # of the starts; a word in more of them separates nothing
_STOP_WORDS = frozenset(("a", "an", "and", "at", "from", "in", "of", "on", "the", "to", "your"))
_LABEL_CHARACTERS = 52
_ROW_PX, _CHARACTER_PX, _BAR_PX, _HEAD_PX = 22, 6.4, 330, 52


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatedPolicy:
    """The results of a policy, with its name and colour."""

    name: str
    colour: str
    results: Sequence[EpisodeResult]

    def success(self, group: "Group") -> Rate:
        """Return the success rate on the starts of a group."""
        successes = [
            result.success for result in self.results if group.contains(result.instruction)
        ]
        return Rate(successes=sum(successes), total=len(successes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Starts that are counted together.

    Attributes:
        contains: whether an instruction belongs to the group.
    """

    name: str
    contains: Callable[[str], bool]


def instructions(report: Report) -> Html:
    """Return success by instruction or word; nothing where there is a single instruction."""
    policies = _policies(report)
    given = [result.instruction for policy in policies for result in policy.results]
    differing = _groups(given, len(policies))
    if not differing:
        return NOTHING
    groups = [
        Group(name="all starts", contains=lambda _: True),
        *_hardest_first(differing, policies),
    ]
    is_by_word = len(set(given)) > _MAX_INSTRUCTIONS
    kind = "word" if is_by_word else "instruction"
    name = f"Success by {kind} of the instruction" if is_by_word else "Success by instruction"
    marks = legend(*(("●", policy.colour, policy.name) for policy in policies))
    drawing = figure(
        "by-instruction",
        name,
        _paint(groups, policies),
        size=_size(groups),
        margins=_margins(groups),
    )
    caption = (
        "Bars are 95 % intervals; n is the number of starts. Rows are sorted by the success of the "
        "last policy, lowest first."
    )
    shown = grid(
        panel(f"All starts, then {kind} by {kind}", drawing, caption, marks), _how_to_read(given)
    )
    return section("instructions", name, tag("div", shown, css="by-word"))


def _how_to_read(given: Sequence[str]) -> Html:
    numbers = {"Different instructions": whole(len(set(given)))}
    if len(set(given)) <= _MAX_INSTRUCTIONS:
        return aside("All instructions of the evaluations.", numbers)
    words = (
        "A row counts the starts whose instruction contains the word, so rows overlap; words in "
        f"fewer than {_MIN_STARTS} starts are left out. Low success with a word suggests that the "
        "policy does not understand it or handles badly what it names. By chance, about one "
        "interval in twenty misses the true rate."
    )
    return aside(words, numbers)


def _policies(report: Report) -> list[EvaluatedPolicy]:
    """Return the evaluated policies, Stage 1 first."""
    stages: list[list[tuple[RunData, str]]] = [
        [(run, STAGE_1) for run in report.stage_one],
        [(run, stage_two_colour(run.index)) for run in report.stage_two],
    ]
    return [
        EvaluatedPolicy(
            name=f"Stage {stage}: {run.name}" if len(runs) > 1 else f"Stage {stage}",
            colour=colour,
            results=run.evaluated.evaluation.results,
        )
        for stage, runs in enumerate(stages, start=1)
        for run, colour in runs
        if run.evaluated
    ]


def _groups(given: Sequence[str], num_policies: int) -> list[Group]:
    """Return a group an instruction, or a word where there are many; none for one instruction."""
    different = sorted(set(given))
    if len(different) < 2:
        return []
    if len(different) <= _MAX_INSTRUCTIONS:
        return [Group(name=instruction, contains=instruction.__eq__) for instruction in different]
    counts = Counter(word for instruction in given for word in _words(instruction))
    most = _MAX_FRACTION * len(given)
    fewest = _MIN_STARTS * num_policies  # every policy has each start
    words = [word for word, count in counts.most_common() if fewest <= count <= most]
    return [_with_word(word) for word in words[:_MAX_WORDS]]


def _with_word(word: str) -> Group:
    return Group(name=word, contains=lambda instruction: word in _words(instruction))


def _words(instruction: str) -> set[str]:
    return set(re.findall(r"\w+", instruction.lower())) - _STOP_WORDS


def _hardest_first(groups: Sequence[Group], policies: Sequence[EvaluatedPolicy]) -> list[Group]:
    last = policies[-1]

    def rank(group: Group) -> tuple[float, str]:
        rate = last.success(group)
        return (rate.value if rate.total else 1.0, group.name)

    return sorted(groups, key=rank)


def _label(group: Group, policies: Sequence[EvaluatedPolicy]) -> str:
    name = group.name
    if len(name) > _LABEL_CHARACTERS:
        name = name[: _LABEL_CHARACTERS - 1] + "…"
    return f"{name}, n = {max(policy.success(group).total for policy in policies):,}"


def _name_px(groups: Sequence[Group]) -> float:
    longest = max(len(group.name) for group in groups)
    return _CHARACTER_PX * (min(longest, _LABEL_CHARACTERS) + len(", n = 1,000")) + 12


def _size(groups: Sequence[Group]) -> tuple[int, int]:
    return round(_name_px(groups) + _BAR_PX), _HEAD_PX + _ROW_PX * len(groups)


def _margins(groups: Sequence[Group]) -> tuple[float, float, float, float]:
    width, height = _size(groups)
    return _name_px(groups) / width, 1 - 14 / width, 40 / height, 1 - 12 / height


def _paint(groups: Sequence[Group], policies: Sequence[EvaluatedPolicy]) -> Paint:
    """Paint success with its interval, a row a group, policies slightly apart."""
    apart = 0.44 / max(1, len(policies) - 1)

    def paint(axes: Axes) -> None:
        for index, policy in enumerate(policies):
            shift = apart * (index - (len(policies) - 1) / 2)
            for row, group in enumerate(groups):
                rate = policy.success(group)
                if rate.total:
                    at = row + shift
                    axes.hlines(at, *rate.interval, color=policy.colour, linewidth=1.6, alpha=0.65)
                    axes.plot(rate.value, at, "o", color=policy.colour, markersize=5, clip_on=False)
        names = [_label(group, policies) for group in groups]
        axes.set_yticks(range(len(groups)), names, color=INK)
        axes.tick_params(axis="y", length=0)
        axes.axhline(0.5, color=INK, linewidth=0.6)
        axes.set(xlim=(0, 1), ylim=(len(groups) - 0.5, -0.5))
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("success rate", fontsize=11)

    return paint
