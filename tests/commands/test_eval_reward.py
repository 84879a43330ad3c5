"""nearer eval-reward: metrics by hand, ground truth by replay, what is new, baselines, caches."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nearer.algorithm.rollout import collect
from nearer.algorithm.steps_to_go import StepsToGoBins
from nearer.cli import main
from nearer.commands.eval_reward import familiarity, run_eval_reward
from nearer.configs.eval_reward import EvalRewardConfig
from nearer.core.arrays import Array
from nearer.core.errors import ConfigError, EnvError
from nearer.core.spaces import Spaces
from nearer.datasets.episodes import create_dataset, episode_frames
from nearer.datasets.lerobot.reader import open_dataset
from nearer.datasets.practice_store import read_practice
from nearer.evaluation.baselines import RIVALS, SUCCESS_HEAD, Lessons, distances, train_baseline
from nearer.evaluation.detector_metrics import (
    area_under_curve,
    average_precision,
    judged,
    precision_gap,
)
from nearer.evaluation.ground_truth import GroundTruthTermination
from nearer.evaluation.label_sources import VERDICT, Taught, taught_of, things_of
from nearer.evaluation.reward_metrics import Evidence, measured, spearman, summary, true_steps
from nearer.evaluation.success import replayed_truth, witnessed_rollouts
from nearer.models.factory import new_model
from nearer.models.settings import MLPConfig
from nearer.reporting.html.reward_data import MEASURE, read_trust
from nearer.runs.checkpoint import save_checkpoint
from nearer.testing import CountingFleet, EchoPolicy

ENV = "nearer/PointMass-v0"
SMALL = [
    *("--rollouts", "30", "--rollout-steps", "60", "--episodes", "12"),
    *("--baseline-updates", "10", "--baseline-seeds", "1"),
]  # fmt: skip
Capture = pytest.CaptureFixture[str]


def evidence(episodes: list[tuple[list[float], int | None]], spread: float = 0.0) -> Evidence:
    """Return episodes by their d, in whole steps, and from which observation on they are done."""
    d = np.concatenate([np.array(one, dtype=np.float32) for one, _ in episodes])
    edges = np.arange(40, dtype=np.float32)
    low, high = np.maximum(d - spread, 0).astype(int), (d + spread).astype(int)
    probabilities = (np.eye(40)[low] + np.eye(40)[high]).astype(np.float32) / 2
    fulfilled = [np.arange(len(one)) >= (99 if done is None else done) for one, done in episodes]
    return Evidence(
        name="by hand",
        labels="made up",
        instructions=tuple(f"task {row}" for row in range(len(episodes))),
        lengths=np.array([len(one) for one, _ in episodes]),
        probabilities=probabilities,
        edges=edges,
        fulfilled=np.concatenate(fulfilled),
    )


PERFECT = ([5.0, 4, 3, 2, 1, 0, 0], 5)
STUCK = ([5.0, 6, 6, 6], None)


def test_true_steps_are_counted_to_the_first_fulfilled_observation() -> None:
    fulfilled = np.array([0, 0, 1, 0, 1, 0, 0, 1], dtype=bool)
    left = true_steps(fulfilled, np.array([5, 2, 1]))
    assert left.tolist() == [2, 1, 0, -1, -1, -1, -1, 0]


def test_rank_correlation_by_hand() -> None:
    assert spearman(np.array([1, 2, 3]), np.array([10, 20, 90])) == pytest.approx(1)
    assert spearman(np.array([1, 2, 3]), np.array([9, 5, 1])) == pytest.approx(-1)
    # ranks 1.5, 1.5, 3, 4 against 1, 2, 3, 4: covariance 4.5 of variances 4.5 and 5
    assert spearman(np.array([7, 7, 8, 9]), np.arange(4)) == pytest.approx(4.5 / (4.5 * 5) ** 0.5)
    assert spearman(np.array([7, 7, 7]), np.arange(3)) == 0


def f32(*values: float) -> Array:
    return np.array(values, dtype=np.float32)


def test_average_precision_by_hand() -> None:
    # found in the order yes, no, yes: precision 1 at recall 1/2, 2/3 at recall 1
    found = average_precision(f32(1, 2, 3), np.array([True, False, True]))
    assert found == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    # what cannot be told apart is taken together
    assert average_precision(f32(0, 0, 0, 0), np.array([True, False, False, False])) == 0.25
    assert average_precision(f32(0, 0), np.zeros(2, dtype=bool)) is None


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.integers(0, 3)), min_size=1))
def test_a_weight_counts_as_so_many_frames(frames: list[tuple[int, bool, int]]) -> None:
    columns = [np.array(one) for one in zip(*frames, strict=True)]
    distance, positive, weight = f32(*columns[0]), columns[1], columns[2]
    many = distance.repeat(weight), positive.repeat(weight)
    repeated = average_precision(*many) if weight.any() else None
    found = average_precision(distance, positive, weight.astype(np.float64))
    assert found == (repeated if repeated is None else pytest.approx(repeated))


def test_area_under_the_curve_by_hand() -> None:
    lowest, succeeded = f32(0, 2, 1, 2), np.array([True, True, False, False])
    assert area_under_curve(lowest, succeeded) == (2 + 0 + 0.5) / 4
    assert area_under_curve(lowest, np.ones(4, dtype=bool)) is None


def test_a_perfect_model_and_an_episode_that_failed() -> None:
    found = measured(evidence([PERFECT, STUCK]), width_steps=1)
    assert found["steps_to_go"]["mean_absolute_error_steps"] == 0
    assert found["rank_correlation"]["mean"] == pytest.approx(1)
    assert [row["frames"] for row in found["by_distance"]] == [1, 1, 3, 1]
    assert sum(row["mean_absolute_error_steps"] for row in found["by_distance"]) == 0
    # d of 5, 6, 6, 6 where 3, 2, 1, 0 steps were left: it never promised to be done in time
    assert found["failures"]["promised"] == 0
    assert found["failures"]["promised_of_successes"] == 1
    assert found["failures"]["lowest_steps_to_go"][1] == 5


def test_a_slice_in_short_by_hand() -> None:
    found = summary(evidence([PERFECT, STUCK, ([3.0, 3, 3], 2), ([0.0, 4], None)]), 0.5)
    assert (found["episodes"], found["fulfilled"], found["known_frames"]) == (4, 2, 9)
    assert found["mean_absolute_error_steps"] == pytest.approx((1 + 2 + 3) / 9)
    assert found["bias_steps"] == pytest.approx((1 + 2 + 3) / 9)
    assert (found["fired"], found["right"]) == (2, 1)  # the last one was a false alarm


def test_a_spread_that_knows_the_error_and_one_that_does_not() -> None:
    sure = [([float(k) for k in range(9, -1, -1)], 9)] * 30
    unsure = [([float(k + 4) for k in range(9, -1, -1)], 9)] * 30
    parts = evidence(sure, spread=0), evidence(unsure, spread=4)
    both = replace(
        parts[0],
        instructions=parts[0].instructions + parts[1].instructions,
        lengths=np.concatenate([one.lengths for one in parts]),
        probabilities=np.concatenate([one.probabilities for one in parts]),
        fulfilled=np.concatenate([one.fulfilled for one in parts]),
    )
    spread = measured(both, width_steps=1)["spread"]
    assert spread["rank_correlation"] > 0.9
    errors = [row["mean_absolute_error_steps"] for row in spread["groups"]]
    assert errors[0] < 0.5
    assert errors[-1] > 3.5
    everywhere = measured(evidence(unsure, spread=4), width_steps=1)["spread"]
    assert abs(everywhere["rank_correlation"]) < 0.6


def test_a_threshold_is_measured_on_episodes_that_did_not_choose_it() -> None:
    honest = [PERFECT, PERFECT] * 10
    found = judged(evidence(honest).steps_to_go, evidence(honest), 0.9)
    assert (found["fired"], found["right"], found["fulfilled"]) == (20, 20, 20)
    # Even episodes end at d = 0, odd ones at d = 4: a threshold of one half misleads on the other.
    odd = [([9.0, 8, 7, 6, 5, 4, 4], 5), PERFECT] * 10
    found = judged(evidence(odd).steps_to_go, evidence(odd), 0.9)
    assert (found["fired"], found["right"]) == (10, 0)


def test_what_comes_after_success_is_not_what_a_detector_meets() -> None:
    # The first number is right up to success and wrong after it; the second the other way round.
    labels = evidence([([3.0, 2, 1, 0, 0, 0], 3), ([5.0, 5, 5, 5], None)] * 10)
    before = np.tile(f32(3, 2, 1, 0, 9, 9, 5, 5, 5, 5), 10)
    after = np.tile(f32(0, 0, 0, 4, 0, 0, 5, 5, 5, 5), 10)
    assert judged(before, labels, 0.9)["average_precision"] == 1
    assert judged(after, labels, 0.9)["average_precision"] == 0.25
    gap = precision_gap([before], [after], labels, np.random.default_rng(0))
    assert gap is not None
    assert gap["ci95"][0] > 0.5
    # A success that is only seen long after it happened is told from no failure.
    late = np.tile(f32(9, 9, 9, 9, 0, 0, 5, 5, 5, 5), 10)
    assert judged(late, labels, 0.9)["success_auc"] == 0


def test_halves_that_are_too_small_choose_nothing() -> None:
    few = evidence([PERFECT, STUCK] * 9)
    found = judged(few.steps_to_go, few, 0.9)
    assert (found["fired"], found["right"], found["fulfilled"], found["chosen"]) == (0, 0, 0, [])
    one_sided = evidence([PERFECT, STUCK] * 10)  # all successes in one half
    assert judged(one_sided.steps_to_go, one_sided, 0.9)["chosen"] == []
    vague = evidence([([5.0, 1, 1], 2), PERFECT, ([5.0, 1, 1], None), STUCK] * 6)
    chosen = judged(vague.steps_to_go, vague, 0.9)["chosen"]
    assert [one["as_precise_as_asked"] for one in chosen] == [False, True]


def test_errors_are_grouped_by_what_was_predicted_too() -> None:
    found = measured(evidence([([5.0, 5, 5, 5, 5, 0], 5), STUCK]), width_steps=1)
    by_truth = {row["from_steps"]: row["bias_steps"] for row in found["by_distance"]}
    assert by_truth == {0: 0, 1: 4, 2: pytest.approx(2), 5: 0}
    by_itself = {row["from_steps"]: row["bias_steps"] for row in found["by_predicted"]}
    assert by_itself == {0: 0, 5: pytest.approx(5 - 3)}


def test_the_gap_of_a_number_to_itself_is_nothing() -> None:
    labels = evidence([PERFECT, STUCK] * 5)
    d, rng = labels.steps_to_go, np.random.default_rng(0)
    assert precision_gap([d], [d, d], labels, rng) == {"mean": 0, "ci95": [0, 0]}
    worse = precision_gap([d], [-d], labels, np.random.default_rng(0))
    assert worse["ci95"][0] > 0


def lessons(episodes: int = 60) -> Lessons:
    """Return episodes of 12 frames whose one fact is a noisy distance to the goal; no words."""
    draw = np.random.default_rng(0)
    left = np.tile(np.arange(11, -1, -1), episodes)
    facts = np.stack([left / 6 - 1 + draw.normal(0, 0.05, len(left)), draw.normal(0, 1, len(left))])
    return Lessons(
        questions=torch.from_numpy(facts.T.astype(np.float32)),
        left=torch.from_numpy(left),
        ends=torch.from_numpy(np.repeat(np.arange(episodes) * 12 + 11, 12)),
        progress=torch.from_numpy((1 - left / 11).astype(np.float32)),
        bins=StepsToGoBins(count=20),
    )


@pytest.mark.parametrize("baseline", RIVALS)
def test_every_rival_learns_what_falls_on_the_way_to_the_goal(baseline: str) -> None:
    given, updates = lessons(), 100
    network = train_baseline(baseline, given, words=0, updates=updates, seed=0)
    found = distances(baseline, network, given, given.questions)
    assert spearman(found, given.left.numpy()) > 0.9
    done = given.left.numpy() == 0
    if baseline == SUCCESS_HEAD:
        assert (average_precision(found, done) or 0) > 0.8
    again = train_baseline(baseline, given, words=0, updates=updates, seed=0)
    assert np.array_equal(distances(baseline, again, given, given.questions), found)


def test_replayed_episodes_have_the_truth_they_had() -> None:
    fleet = CountingFleet(3, goal_steps=4)
    rollouts = list(witnessed_rollouts(fleet, EchoPolicy(), episodes=7, max_steps=6, seed=0))
    ran, truths = [one for one, _ in rollouts], [true for _, true in rollouts]
    # Of different lengths, as practice leaves them.
    termination = GroundTruthTermination(fleet)
    cut = list(collect(fleet, EchoPolicy(), termination, seeds=iter([4, 5, 6, 7]), max_steps=6))
    assert len({one.num_steps for one in cut}) == 2
    for told, true in zip(replayed_truth(fleet, ran), truths, strict=True):
        assert np.array_equal(told, true)
    for one, told in zip(cut, replayed_truth(fleet, cut), strict=True):
        assert told.tolist() == [step >= 4 and one.seed % 3 != 0 for step in range(len(told))]
    other = replace(cut[0], seed=cut[0].seed + 1)
    with pytest.raises(EnvError, match="must repeat the recorded episode bit for bit"):
        replayed_truth(fleet, [other])


def test_things_of_the_tabletop() -> None:
    together = things_of("push the red moon to the blue cube")
    assert together == things_of("move the red crescent next to the blue box")
    assert together == things_of("push the blue cube to the red moon"), "whichever is pushed"
    assert together != things_of("push the blue cube to the red star")
    assert things_of("fold the towel") is None


def test_what_is_new_is_told_in_every_sense() -> None:
    taught = ["push the red moon to the blue cube", "push the green star to the red moon"]
    asked = [
        "push the red moon to the blue cube",
        "move the red crescent next to the blue box",
        "push the green star to the blue cube",
        "push the yellow pentagon to the red moon",
    ]
    new = {name: rows.tolist() for name, rows in familiarity(asked, taught).items()}
    assert new["instructions never seen"] == [False, True, True, True]
    assert new["things never seen together"] == [False, False, True, True]
    assert new["a thing never named"] == [False, False, False, True]
    assert all(
        new[seen] == [not one for one in new[unseen]]
        for seen, unseen in zip([*new][::2], [*new][1::2], strict=True)
    )
    other = familiarity(["fold the towel", "lift it"], ["lift it"])
    assert {name: rows.tolist() for name, rows in other.items()} == {
        "instructions seen": [False, True],
        "instructions never seen": [True, False],
    }


@pytest.fixture(scope="module")
def work(stage_one: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a data set, a run on half of it, and its practice."""
    root = tmp_path_factory.mktemp("work")
    shutil.copytree(stage_one / "data", root / "data")
    run, data = str(root / "sft"), str(root / "data")
    tiny = ["--model", "mlp", "--mlp.hidden", "16", "--updates", "40", "--validate-every", "20"]
    main(["sft", "--data", data, "--fraction", "0.5", "--out", run, *tiny])
    sizes = ["--updates-per-iteration", "2", "--max-env-steps", "2000", "--max-steps", "60"]
    out = ["--out", str(root / "practice"), "--threshold", "20", "--num-envs", "4"]
    main(["improve", "--run", run, "--env", ENV, *out, *sizes])
    return root


def calibrated(work: Path, out: Path, *more: str) -> dict[str, Any]:
    main(["eval-reward", "--checkpoint", str(work / "sft"), "--out", str(out), *SMALL, *more])
    return json.loads((out / "calibration.json").read_text())


def test_a_run_is_measured_on_what_it_never_trained_on(work: Path, tmp_path: Path) -> None:
    data, practice = str(work / "data"), str(work / "practice/practice")
    found = calibrated(work, tmp_path, "--data", data, practice, "--env", ENV)
    assert list(found["sources"]) == [
        "demonstrations never trained on",
        "practised episodes",
        "rollouts",
    ]
    assert found["sources"]["rollouts"]["slices"]["all"]["episodes"] == 30
    assert found["sources"]["practised episodes"]["slices"]["all"]["episodes"] == 12
    assert found["sources"]["practised episodes"]["remarks"]["audits"]["audited"] > 0
    assert "replayed" in found["sources"]["practised episodes"]["labels"]
    baselines = found["comparisons"]["sources"]["rollouts"]
    assert list(baselines) == ["the checkpoint's own", *RIVALS]
    assert found["threshold_steps"] in found["curves"]["rollouts"]["thresholds_steps"]
    page = (tmp_path / "calibration.md").read_text()
    assert "Recommended threshold" in page
    assert "nan" not in page
    taught = taught_of(work / "sft", None)
    assert isinstance(taught, Taught)
    everything = {*taught.train.tolist(), *taught.unseen.tolist()}
    assert not set(taught.train.tolist()) & set(taught.unseen.tolist())
    total = len(open_dataset(work / "data").episode_lengths)
    assert len(taught.train) < round(total / 2)
    assert len(everything) == total


def test_practice_without_its_simulator_is_no_truth(work: Path, tmp_path: Path) -> None:
    found = calibrated(work, tmp_path, "--data", str(work / "practice/practice"))
    source = found["sources"]["practised episodes"]
    assert source["labels"] == VERDICT
    assert not source["is_truth"]
    assert found["threshold_steps"] is None
    assert found["comparisons"] == {"none": "no source with true labels"}
    ended = [one.episode.ended.value for one in read_practice(work / "practice/practice")]
    assert source["slices"]["all"]["fulfilled"] <= ended.count("success_detected")


def test_a_second_call_asks_no_model_and_no_env(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nearer.datasets.caching.results.git_revision", lambda: "a revision")
    config = EvalRewardConfig(
        checkpoint=work / "sft",
        data=(str(work / "data"), str(work / "practice/practice")),
        env=ENV,
        rollouts=5,
        rollout_steps=20,
        baseline_updates=5,
        baseline_seeds=1,
        out=tmp_path / "out",
        cache=tmp_path / "cache",
    )
    first = run_eval_reward(config)

    def refuse(*_: object, **__: object) -> Any:
        raise AssertionError("this was computed before")

    for slow in (
        "evaluation.predictions.steps_to_go_probabilities",
        "evaluation.label_sources.witnessed_rollouts",
        "evaluation.label_sources.replayed_truth",
        "commands.eval_reward.train_baseline",
    ):
        monkeypatch.setattr(f"nearer.{slow}", refuse)
    assert run_eval_reward(config) == first
    with pytest.raises(AssertionError, match="computed before"):
        run_eval_reward(replace(config, seed=7))
    monkeypatch.undo()
    for path in tmp_path.rglob("*.npz"):
        path.write_bytes(path.read_bytes()[:50])
    monkeypatch.setattr("nearer.datasets.caching.results.git_revision", lambda: "a revision")
    assert run_eval_reward(config) == first


def test_the_report_shows_it(work: Path, tmp_path: Path, capsys: Capture) -> None:
    run = tmp_path / "run<b>"
    shutil.copytree(work / "sft", run, symlinks=True)
    assert read_trust(run) is None
    out = str(tmp_path / "page.html")
    main(["report", str(run), "--out", out])
    assert MEASURE in Path(out).read_text()
    data = ["--data", str(work / "data"), "--env", ENV]
    main(["eval-reward", "--checkpoint", str(run), *SMALL, *data])
    main(["report", str(run), "--out", out])
    page = Path(out).read_text()
    for words in (
        "Can the reward be trusted?",
        "never trained on",
        "goal distance",
        "too hopeful?",
    ):
        assert words in page
    assert "run<b>" not in page
    (run / "eval_reward/calibration.json").write_text('{"sources": 3}')
    with pytest.raises(ConfigError, match="must be one nearer eval-reward wrote"):
        read_trust(run)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ([], "must have labelled episodes, got none; pass --data"),
        (["--env", ENV, "--rollouts", "0"], "must have labelled episodes"),
        (["--data", "nowhere at all"], "must be an existing folder or a hub id"),
        (
            ["--data", "{data}", "--demonstrations", "{other}"],
            "the data set that .* was trained on",
        ),
        (["--data", "{narrow}"], "must have the spaces of the checkpoint"),
        (["--env", ENV, "--policy", "{data}"], "must be a run or a checkpoint"),
    ],
)
def test_what_cannot_be_measured_is_a_sentence(
    flags: list[str], sentence: str, work: Path, tmp_path: Path, capsys: Capture
) -> None:
    sizes = {"episodes": 3, "max_steps": 6, "seed": 0}
    ran = [one for one, _ in witnessed_rollouts(CountingFleet(3, 4), EchoPolicy(), **sizes)]
    narrow = Spaces(agent_pos=2, environment_state=0, action=1)
    create_dataset(tmp_path / "narrow", narrow, 10, "counter").append(
        [episode_frames(one) for one in ran]
    )
    other = ["--env", ENV, "--episodes", "5", "--out", str(tmp_path / "other"), "--seed", "3"]
    main(["collect", *other])
    places = {"data": work / "data", "other": tmp_path / "other", "narrow": tmp_path / "narrow"}
    given = [flag.format(**places) for flag in flags]
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(
            ["eval-reward", "--checkpoint", str(work / "sft"), "--out", str(tmp_path / "o"), *given]
        )
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert re.search(sentence, told), told


def test_practice_of_another_robot_is_a_sentence(
    work: Path, tmp_path: Path, capsys: Capture
) -> None:
    spaces = Spaces(agent_pos=5, environment_state=2, action=2)
    model = new_model("mlp", MLPConfig(hidden=8), spaces, ["go"], seed=0)
    save_checkpoint(tmp_path / "other", model, None)
    with pytest.raises(SystemExit):
        main(["eval-reward", "--checkpoint", str(tmp_path / "other"), "--data",
              str(work / "practice/practice")])  # fmt: skip
    assert "must have practised with the robot of the checkpoint" in capsys.readouterr().err
