"""The section on what was asked: success instruction by instruction, or word by word."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from nearer.core.intervals import Rate
from nearer.evaluation.success import EpisodeResult
from nearer.reporting.html.markup import NOTHING, Html, aside, grid, key, panel, section, tag, whole
from nearer.reporting.html.run_data import Report, RunFacts
from nearer.reporting.html.svg import INK, STAGE_1, picture, stage_two_colour

_MOST_INSTRUCTIONS = 12  # as many are shown one by one; more of them are grouped by their words
_MOST_WORDS = 24
_FEWEST_STARTS = 10  # a word in fewer has an interval that says nothing
_LARGEST_SHARE = 0.9  # a word in more starts divides nothing
_GRAMMAR = frozenset(("a", "an", "and", "at", "from", "in", "of", "on", "the", "to", "your"))
_LABEL_CHARACTERS = 52
_ROW_PX, _CHARACTER_PX, _BAR_PX, _HEAD_PX = 22, 6.4, 330, 52


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A policy's results and how they are drawn."""

    name: str
    colour: str
    results: Sequence[EpisodeResult]

    def success(self, group: "Group") -> Rate:
        """Return the success rate on the starts of a group."""
        chosen = [one.success for one in self.results if group.holds(one.instruction)]
        return Rate(successes=sum(chosen), total=len(chosen))


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Starts that are counted together.

    Attributes:
        holds: tells whether an instruction is one of its own.
    """

    name: str
    holds: Callable[[str], bool]


def asked_for(report: Report) -> Html:
    """Return success by instruction or word; nothing where everything asked for is the same."""
    policies = _policies(report)
    asked = [one.instruction for policy in policies for one in policy.results]
    found = _groups(asked, len(policies))
    if not found:
        return NOTHING
    groups = [Group(name="all starts", holds=lambda _: True), *_hardest_first(found, policies)]
    is_by_word = len(set(asked)) > _MOST_INSTRUCTIONS
    kind = "word" if is_by_word else "instruction"
    name = f"Success by {kind} of the instruction" if is_by_word else "Success by instruction"
    marks = key(*(("●", one.colour, one.name) for one in policies))
    figure = picture(
        "asked",
        name,
        _paint(groups, policies),
        size=_size(groups),
        margins=_margins(groups),
    )
    caption = "Bars are 95 % intervals; n counts the starts. Hardest first, by the last policy."
    shown = grid(
        panel(f"All starts, then {kind} by {kind}", figure, caption, marks), _how_to_read(asked)
    )
    return section("asked", name, tag("div", shown, css="by-word"))


def _how_to_read(asked: Sequence[str]) -> Html:
    numbers = {"Different instructions": whole(len(set(asked)))}
    if len(set(asked)) <= _MOST_INSTRUCTIONS:
        return aside("Every instruction that was asked for.", numbers)
    words = (
        "With so many wordings a row holds all starts whose instruction has the word, so rows "
        f"overlap; words in fewer than {_FEWEST_STARTS} starts are left out. A word far below "
        "the others is one the policy does not understand, or a thing it handles badly; but about "
        "one interval in twenty misses the true rate by chance."
    )
    return aside(words, numbers)


def _policies(report: Report) -> list[Policy]:
    """Return what was evaluated, Stage 1 first."""
    stages: list[list[tuple[RunFacts, str]]] = [
        [(run.facts, STAGE_1) for run in report.stage_one],
        [(run.facts, stage_two_colour(run.index)) for run in report.stage_two],
    ]
    return [
        Policy(
            name=f"Stage {stage}: {facts.name}" if len(runs) > 1 else f"Stage {stage}",
            colour=colour,
            results=facts.evaluated.evaluation.results,
        )
        for stage, runs in enumerate(stages, start=1)
        for facts, colour in runs
        if facts.evaluated
    ]


def _groups(asked: Sequence[str], num_policies: int) -> list[Group]:
    """Return instructions, or words where there are many; none where nothing differs."""
    different = sorted(set(asked))
    if len(different) < 2:
        return []
    if len(different) <= _MOST_INSTRUCTIONS:
        return [Group(name=one, holds=one.__eq__) for one in different]
    counts = Counter(word for one in asked for word in _words(one))
    most = _LARGEST_SHARE * len(asked)
    fewest = _FEWEST_STARTS * num_policies  # each start was asked of every policy
    telling = [word for word, count in counts.most_common() if fewest <= count <= most]
    return [_with_word(word) for word in telling[:_MOST_WORDS]]


def _with_word(word: str) -> Group:
    return Group(name=word, holds=lambda instruction: word in _words(instruction))


def _words(instruction: str) -> set[str]:
    return set(re.findall(r"\w+", instruction.lower())) - _GRAMMAR


def _hardest_first(groups: Sequence[Group], policies: Sequence[Policy]) -> list[Group]:
    last = policies[-1]

    def rank(group: Group) -> tuple[float, str]:
        rate = last.success(group)
        return (rate.value if rate.total else 1.0, group.name)

    return sorted(groups, key=rank)


def _label(group: Group, policies: Sequence[Policy]) -> str:
    name = group.name
    if len(name) > _LABEL_CHARACTERS:
        name = name[: _LABEL_CHARACTERS - 1] + "…"
    return f"{name}, n = {max(one.success(group).total for one in policies):,}"


def _name_px(groups: Sequence[Group]) -> float:
    longest = max(len(group.name) for group in groups)
    return _CHARACTER_PX * (min(longest, _LABEL_CHARACTERS) + len(", n = 1,000")) + 12


def _size(groups: Sequence[Group]) -> tuple[int, int]:
    return round(_name_px(groups) + _BAR_PX), _HEAD_PX + _ROW_PX * len(groups)


def _margins(groups: Sequence[Group]) -> tuple[float, float, float, float]:
    width, height = _size(groups)
    return _name_px(groups) / width, 1 - 14 / width, 40 / height, 1 - 12 / height


def _paint(groups: Sequence[Group], policies: Sequence[Policy]) -> Callable[[Axes], None]:
    """Success and its interval, a row a group; policies a little apart from each other."""
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
        axes.set_xlabel("share of starts that succeed", fontsize=11)

    return paint
