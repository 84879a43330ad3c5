"""The paper's ablation of pretraining at our size: whose reward, and whose policy, learns what.

The built-in model three ways (`models/pointing/rungs.py`): multimodal, unimodal, scratch. As the
paper does, the reward comes from each while the policy is always the multimodal one; and apart from
that, the policy comes from each. Steps and order of the data are the same for all three. The
multimodal runs are those of the headline, in the same folder.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

from nearer.configs import EvalConfig
from nearer.intervals import Rate
from nearer.models.pointing.rungs import RUNGS
from nearer.progress import Watch, unwatched
from nearer.recipes.recipe import Recipe
from nearer.report.draw import STAGE_2
from nearer.report.shares import Line, SharePoint, lines_figure
from nearer.reproduce import (
    ReproduceConfig,
    evaluated,
    finished_practice,
    finished_sft,
    pooled,
    recipe_of,
    whole_data,
    write_files,
)

PAPER = {
    "multimodal": {10: 0.745, 20: 0.889, 80: 0.968},
    "unimodal": {10: 0.585, 20: 0.688, 80: 0.846},
    "scratch": {10: 0.452, 20: 0.599, 80: 0.859},
}
"""Success after Stage 2 in the paper, by whose reward it was and percent of the data."""
OTHER_LOOK = "nearer/TabletopBlock2BlockReal-v0"
Role = Literal["policy", "reward"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderPoint:
    """Success of one policy.

    Attributes:
        share: percent of the data set that Stage 1 learned from.
        stage: 1 after SFT, 2 after practice.
        rung: multimodal, unimodal or scratch.
        role: whose weights the rung gives: the policy and its reward, or the reward alone.
        measure: trained: instructions and look of the demonstrations; other-look: the other look.
        demonstrations: episodes that Stage 1 learned from.
        practice_episodes: that Stage 2 learned from; 0 in stage 1.
    """

    share: int
    stage: int
    seed: int
    rung: str
    role: Role
    measure: str
    demonstrations: int
    practice_episodes: int
    n_success: int
    n_episodes: int

    @property
    def rate(self) -> Rate:
        """Return the success rate."""
        return Rate(successes=self.n_success, total=self.n_episodes)


def reproduce_pretraining(config: ReproduceConfig, watch: Watch = unwatched) -> list[LadderPoint]:
    """Run what is missing, write table and numbers as results come, and return them all."""
    total = whole_data(config, watch)
    found: list[LadderPoint] = []
    for seed in config.seeds:
        for share in config.shares:
            for model, rung in RUNGS.items():
                found += _rung(config, model, rung, seed, share, round(total * share / 100), watch)
                write_files(
                    config.out,
                    {
                        "pretraining.json": json.dumps([asdict(p) for p in found], indent=1) + "\n",
                        "pretraining.md": pretraining_table(found),
                        "pretraining.svg": pretraining_figure(found),
                    },
                )
    return found


def _rung(
    config: ReproduceConfig,
    model: str,
    rung: str,
    seed: int,
    share: int,
    demonstrations: int,
    watch: Watch,
) -> Iterator[LadderPoint]:
    """Yield what one rung gives at one seed and share, doing what is not on disk yet."""
    multimodal = recipe_of(config, seed, share)
    own = multimodal if rung == "multimodal" else _recipe_of_rung(multimodal, model, rung)
    for before in (multimodal, own):
        finished_sft(before, watch)

    def point(
        stage: int, role: Role, test: EvalConfig, episodes: int = 0, measure: str = "trained"
    ) -> LadderPoint:
        success = evaluated(test, watch).success
        return LadderPoint(
            share=share, stage=stage, seed=seed, rung=rung, role=role, measure=measure,
            demonstrations=demonstrations, practice_episodes=episodes,
            n_success=success.successes, n_episodes=success.total,
        )  # fmt: skip

    yield point(1, "policy", own.eval_sft)
    elsewhere = replace(own.eval_sft, env=OTHER_LOOK, out=own.sft.out / "eval-other-look")
    yield point(1, "policy", elsewhere, measure="other-look")
    as_policy = finished_practice(own, watch)
    yield point(2, "policy", own.eval_improve, as_policy)
    if own is multimodal:
        yield point(2, "reward", own.eval_improve, as_policy)
        return
    judged = _judged_by(multimodal, own)
    yield point(2, "reward", judged.eval_improve, finished_practice(judged, watch))


def _recipe_of_rung(multimodal: Recipe, model: str, rung: str) -> Recipe:
    """Return the same recipe for another rung, in folders of its own."""
    root = multimodal.sft.out.parent / rung
    sft, practice = root / "sft", root / "practice"
    return replace(
        multimodal,
        sft=replace(multimodal.sft, model=model, out=sft),
        eval_sft=replace(multimodal.eval_sft, checkpoint=sft),
        improve=replace(multimodal.improve, run=sft, out=practice),
        eval_improve=replace(multimodal.eval_improve, checkpoint=practice),
    )


def _judged_by(multimodal: Recipe, own: Recipe) -> Recipe:
    """Return the multimodal policy's practice with the rung's model as its reward."""
    out = own.improve.out.with_name("reward")
    return replace(
        multimodal,
        improve=replace(multimodal.improve, reward=own.sft.out, out=out),
        eval_improve=replace(multimodal.eval_improve, checkpoint=out),
    )


def pretraining_table(found: Sequence[LadderPoint]) -> str:
    """Return the results as a table, seeds pooled, beside the paper's."""
    lines = [
        "| data | rung | Stage 1 | Stage 1, other look | practised by itself "
        "| multimodal policy, its reward | paper |",
        "|---|---|---|---|---|---|---|",
    ]
    for share in sorted({one.share for one in found}):
        for rung in RUNGS.values():
            rows = [one for one in found if (one.share, one.rung) == (share, rung)]
            cells = [
                _pooled([one for one in rows if (one.stage, one.role, one.measure) == kind])
                for kind in (
                    (1, "policy", "trained"),
                    (1, "policy", "other-look"),
                    (2, "policy", "trained"),
                    (2, "reward", "trained"),
                )
            ]
            paper = PAPER[rung].get(share, "-")
            lines.append(f"| {share} % | {rung} | {' | '.join(cells)} | {paper} |")
    return "\n".join(lines) + "\n"


def pretraining_figure(found: Sequence[LadderPoint]) -> str:
    """Return success after practice with each rung's reward, beside the paper's, as an SVG file."""
    lines = [
        Line(name=f"{rung} reward", colour=colour, points=_share_points(found, rung))
        for rung, colour in zip(RUNGS.values(), STAGE_2, strict=False)
    ]
    return lines_figure("Success after practice, by the reward's pretraining", lines)


def _share_points(found: Sequence[LadderPoint], rung: str) -> list[SharePoint]:
    rewarded = [one for one in found if (one.rung, one.role) == (rung, "reward")]
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
                paper=PAPER[rung].get(share),
            )
        )
    return points


def _pooled(points: Sequence[LadderPoint]) -> str:
    return str(pooled([one.rate for one in points])) if points else "-"
