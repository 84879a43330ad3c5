"""Results of the pretraining ablation: records, table, and figure beside the paper's."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from nearer.core.intervals import Rate
from nearer.models.settings import VARIANTS
from nearer.reporting.html.colours import STAGE_2
from nearer.reporting.html.fraction_curves import FractionPoint, Line, lines_figure
from nearer.studies.headline_results import pooled

PAPER = {
    "multimodal": {10: 0.745, 20: 0.889, 80: 0.968},
    "unimodal": {10: 0.585, 20: 0.688, 80: 0.846},
    "scratch": {10: 0.452, 20: 0.599, 80: 0.859},
}
"""Success after Stage 2 in the paper, by the reward model's variant and percent of the data."""
Role = Literal["policy", "reward"]
Condition = Literal["trained", "few", "other-appearance", "unseen-pairs", "seen-pairs"]
_COLUMNS: tuple[tuple[int, Role, Condition], ...] = (
    (1, "policy", "trained"),
    (1, "policy", "few"),
    (1, "policy", "other-appearance"),
    (1, "policy", "unseen-pairs"),
    (1, "policy", "seen-pairs"),
    (2, "policy", "trained"),
    (2, "reward", "trained"),
)
"""Stage, role and condition of each column of the table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AblationPoint:
    """Success of one policy.

    Attributes:
        percent: of the data set that Stage 1 was trained on.
        stage: 1 after SFT, 2 after practice.
        variant: of pretraining: multimodal, unimodal or scratch.
        role: what has this variant: the policy and its reward model, or the reward model alone.
        condition: trained: instructions and appearance of the demonstrations; few: the same, from
            fewer demonstrations than any fraction; other-appearance: the real one; unseen-pairs,
            seen-pairs: instructions with and without a colour-shape pair that was left out of the
            demonstrations.
        demonstrations: number that Stage 1 was trained on.
        practice_episodes: of Stage 2; 0 in stage 1.
        kept_iteration: of practice, after which the policy was kept; 0: the one it started with.
    """

    percent: int
    stage: int
    seed: int
    variant: str
    role: Role
    condition: Condition
    demonstrations: int
    practice_episodes: int
    n_success: int
    n_episodes: int
    kept_iteration: int = 0

    @property
    def rate(self) -> Rate:
        """Return the success rate."""
        return Rate(successes=self.n_success, total=self.n_episodes)


@dataclass(frozen=True, slots=True, kw_only=True)
class AblationReward:
    """Quality of a variant's Stage-1 model as a reward model and as a success detector.

    Attributes:
        demonstrations: number that Stage 1 was trained on, validation episodes included.
        loss_bc, loss_steps_to_go: on validation episodes.
        error_steps: mean absolute error of d on these, in control steps.
        rank_correlation: of d with the ground truth on these; None: it was not measured.
        threshold_steps: s, chosen on labelled rollouts of the multimodal policy.
        precision, recall: of the detector at that threshold, on these rollouts.
        num_detections: of these rollouts; where there is none, precision says nothing.
    """

    percent: int
    seed: int
    variant: str
    demonstrations: int
    loss_bc: float
    loss_steps_to_go: float
    error_steps: float
    rank_correlation: float | None
    threshold_steps: float
    precision: float
    recall: float
    num_detections: int


def pretraining_table(points: Sequence[AblationPoint]) -> str:
    """Return the results as a Markdown table, seeds pooled, beside the paper's."""
    lines = [
        "| data | variant | Stage 1 | few demonstrations | other appearance | unseen pairs "
        "| seen pairs | its policy, its reward | multimodal policy, its reward | paper |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for percent in sorted({point.percent for point in points}):
        for variant in VARIANTS.values():
            rows = [p for p in points if (p.percent, p.variant) == (percent, variant)]
            cells = [
                _cell([p for p in rows if (p.stage, p.role, p.condition) == column])
                for column in _COLUMNS
            ]
            paper = PAPER[variant].get(percent, "-")
            lines.append(f"| {percent} % | {variant} | {' | '.join(cells)} | {paper} |")
    return "\n".join(lines) + "\n"


def pretraining_figure(points: Sequence[AblationPoint]) -> str:
    """Return success after practice by the reward model's variant, beside the paper's, as SVG."""
    lines = [
        Line(name=f"{variant} reward", colour=colour, points=_line_points(points, variant))
        for variant, colour in zip(VARIANTS.values(), STAGE_2, strict=False)
    ]
    return lines_figure("Success after practice, by the reward's pretraining", lines)


def _line_points(points: Sequence[AblationPoint], variant: str) -> list[FractionPoint]:
    rewarded = [point for point in points if (point.variant, point.role) == (variant, "reward")]
    line_points: list[FractionPoint] = []
    for percent in sorted({point.percent for point in rewarded}):
        seeds = [point for point in rewarded if point.percent == percent]
        line_points.append(
            FractionPoint(
                percent=percent,
                stage=2,
                demonstrations=seeds[0].demonstrations,
                pooled=pooled([point.rate for point in seeds]),
                seeds=tuple(point.rate.value for point in seeds),
                paper=PAPER[variant].get(percent),
            )
        )
    return line_points


def _cell(points: Sequence[AblationPoint]) -> str:
    """Return a cell of the table: the pooled rate, and how many policies are those at the start."""
    if not points:
        return "-"
    num_unchanged = sum(point.stage == 2 and not point.kept_iteration for point in points)
    kept = f", {num_unchanged} of {len(points)} kept the start" if num_unchanged else ""
    return f"{pooled([point.rate for point in points])}{kept}"
