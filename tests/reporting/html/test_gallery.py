"""The section with rollouts: paths of the point mass, videos of other envs."""

import re
from dataclasses import replace

from nearer.reporting.html.colours import themed
from nearer.reporting.html.gallery import rollouts
from nearer.reporting.html.run_data import Report
from report_values import evaluated, pair, report_of, rollout, solving, words


def test_rollouts_of_the_point_mass_are_drawn_data_first(page: str, report: Report) -> None:
    html = rollouts(report)
    assert 'aria-label="Paths of the first episodes' in html
    rows = re.findall(r">(Data|Stage 1|Stage 2)</text>", html)
    assert rows == ["Data", "Stage 1", "Stage 2"]
    assert themed(html) in page


def test_rollouts_of_the_same_starts_say_so(report: Report) -> None:
    shown = [rollout(3), rollout(5)]
    same = pair(
        report,
        evaluated(solving(1, 2), rollouts=shown),
        evaluated(solving(2, 2), rollouts=shown),
    )
    assert "have the same start and goal" in words(rollouts(same))


def test_rollouts_of_different_starts_do_not_claim_to_be_the_same(report: Report) -> None:
    shown = [rollout(3), rollout(5)]
    different = pair(
        report,
        evaluated(solving(1, 2), rollouts=shown),
        evaluated(solving(2, 2), rollouts=shown, seed=1),
    )
    assert "have the same start and goal" not in words(rollouts(different))


def test_rollouts_without_an_evaluation_name_the_command(report: Report) -> None:
    shown = pair(report, None, None)
    text = words(rollouts(shown))
    for run in shown.runs:
        assert f"nearer eval --checkpoint {run.shown_root}" in text


def test_rollouts_of_several_runs_name_each(report: Report) -> None:
    stage_one = replace(
        replace(report.stage_one[0], demonstrations=()),
        evaluated=evaluated(solving(1, 1), rollouts=[rollout(3)]),
    )
    runs = [replace(stage_one, root=stage_one.root / name) for name in ("a", "a-very-long-name")]
    text = words(rollouts(report_of(runs, [])))
    assert "Stage 1 a " in text
    assert "Stage 1 a-very-long…" in text


def test_rollouts_of_another_env_are_not_drawn(report: Report) -> None:
    other = evaluated(solving(1, 2), env="other/Arm-v1", rollouts=[rollout(3)])
    html = rollouts(pair(report, other, other))
    assert "Paths of the first episodes" not in html
    assert "Videos of the first starts" in words(html)
