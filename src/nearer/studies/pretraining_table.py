"""What the ablation of pretraining gave: its numbers, its table, its figure beside the paper's."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from nearer.core.intervals import Rate
from nearer.models.settings import VARIANTS
from nearer.reporting.html.fraction_curves import Line, SharePoint, lines_figure
from nearer.reporting.html.svg import STAGE_2
from nearer.studies.headline import pooled

PAPER = {
    "multimodal": {10: 0.745, 20: 0.889, 80: 0.968},
    "unimodal": {10: 0.585, 20: 0.688, 80: 0.846},
    "scratch": {10: 0.452, 20: 0.599, 80: 0.859},
}
"""Success after Stage 2 in the paper, by whose reward it was and percent of the data."""
Role = Literal["policy", "reward"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderPoint:
    """Success of one policy.

    Attributes:
        share: percent of the data set that Stage 1 learned from.
        stage: 1 after SFT, 2 after practice.
        variant: multimodal, unimodal or scratch.
        role: whose weights the rung gives: the policy and its reward, or the reward alone.
        measure: trained: instructions and look of the demonstrations; few: the same, from fewer
            demonstrations than any share; other-look: the other look; unseen-pairs, seen-pairs:
            instructions with and without a pair that was left out of the demonstrations.
        demonstrations: episodes that Stage 1 learned from.
        practice_episodes: that Stage 2 practised; 0 in stage 1.
        kept_iteration: of practice, after which the policy was kept; 0: the one it started with.
    """

    share: int
    stage: int
    seed: int
    variant: str
    role: Role
    measure: str
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
class LadderJudge:
    """How well the Stage-1 model of a rung answers both questions, and detects success.

    Attributes:
        demonstrations: that Stage 1 learned from, held-out ones included.
        loss_bc, loss_steps_to_go: on held-out demonstrations.
        error_steps: mean distance of d from the truth on these, control steps.
        rank_correlation: of d with the truth on these; None: an older nearer did not measure it.
        threshold_steps: of the detector, chosen on labelled rollouts of the multimodal policy.
        precision, recall: of the detector at that threshold, on these rollouts.
        fired: of these rollouts, where it saw a success; no precision where there is none.
    """

    share: int
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
    fired: int


def pretraining_table(found: Sequence[LadderPoint]) -> str:
    """Return the results as a table, seeds pooled, beside the paper's."""
    lines = [
        "| data | rung | Stage 1 | few demonstrations | other look | pairs never named "
        "| the other pairs | practised by itself | multimodal policy, its reward | paper |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for share in sorted({one.share for one in found}):
        for variant in VARIANTS.values():
            rows = [one for one in found if (one.share, one.variant) == (share, variant)]
            cells = [
                _pooled([one for one in rows if (one.stage, one.role, one.measure) == kind])
                for kind in (
                    (1, "policy", "trained"),
                    (1, "policy", "few"),
                    (1, "policy", "other-look"),
                    (1, "policy", "unseen-pairs"),
                    (1, "policy", "seen-pairs"),
                    (2, "policy", "trained"),
                    (2, "reward", "trained"),
                )
            ]
            paper = PAPER[variant].get(share, "-")
            lines.append(f"| {share} % | {variant} | {' | '.join(cells)} | {paper} |")
    return "\n".join(lines) + "\n"


def pretraining_figure(found: Sequence[LadderPoint]) -> str:
    """Return success after practice with each rung's reward, beside the paper's, as an SVG file."""
    lines = [
        Line(name=f"{variant} reward", colour=colour, points=_share_points(found, variant))
        for variant, colour in zip(VARIANTS.values(), STAGE_2, strict=False)
    ]
    return lines_figure("Success after practice, by the reward's pretraining", lines)


def _share_points(found: Sequence[LadderPoint], variant: str) -> list[SharePoint]:
    rewarded = [one for one in found if (one.variant, one.role) == (variant, "reward")]
    points: list[SharePoint] = []
    for share in sorted({one.share for one in rewarded}):
        seeds = [one for one in rewarded if one.share == share]
        points.append(
            SharePoint(
                share=share,
                stage=2,
                demonstrations=seeds[0].demonstrations,
                pooled=pooled([one.rate for one in seeds]),
                seeds=tuple(one.rate.value for one in seeds),
                paper=PAPER[variant].get(share),
            )
        )
    return points


def _pooled(points: Sequence[LadderPoint]) -> str:
    if not points:
        return "-"
    started = sum(one.stage == 2 and not one.kept_iteration for one in points)
    kept = f", {started} of {len(points)} kept the start" if started else ""
    return f"{pooled([one.rate for one in points])}{kept}"
