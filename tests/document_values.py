"""Small documents of a run, for tests that need one of a certain value."""

from collections.abc import Mapping
from dataclasses import replace

from nearer.evaluation.audit import Audit
from nearer.evaluation.baseline_settings import BaselineSettings
from nearer.evaluation.calibration import Calibration, PredictionExample
from nearer.evaluation.detector_metrics import DetectorMetrics, HalfThreshold, PrecisionGap
from nearer.evaluation.eval_info import EvalInfo, eval_info
from nearer.evaluation.reliability import Coverage, Reliability, TrueStepsGroup
from nearer.evaluation.reward_metrics import (
    DistanceGroup,
    FailureMetrics,
    RankCorrelation,
    RewardMetrics,
    SliceMetrics,
    SpreadGroup,
    SpreadMetrics,
)
from nearer.evaluation.reward_report import (
    BaselineComparison,
    BaselineReport,
    RewardReport,
    SourceRemarks,
    SourceReport,
)
from nearer.evaluation.success import EpisodeResult, Evaluation
from nearer.evaluation.threshold import DetectorCurve, ThresholdChoice
from nearer.runs.documents import FORMAT, DrawnEpisode, RunHeader, RunInputs

AUDIT = Audit(
    iteration=8,
    num_episodes=10,
    num_detections=8,
    num_correct_detections=8,
    num_success=9,
    num_ended_by_ground_truth=0,
    progress_steps=30.0,
    progress_variance=4.0,
)
RELIABILITY = Reliability(
    num_frames=1234,
    mean_absolute_error_steps=3.5,
    by_true_steps=tuple(
        TrueStepsGroup(
            true_steps=true_steps,
            predicted_mean=2.0,
            predicted_p10=1.0,
            predicted_p90=3.0,
            num_frames=20,
        )
        for true_steps in (1.0, 4.0)
    ),
    coverage=Coverage(nominal=(0.1, 0.5, 0.9), observed=(0.1, 0.5, 0.95)),
)
EXAMPLE = PredictionExample(
    edges=(0.0, 2.0, 4.0),
    probabilities=((0.2, 0.3, 0.5), (0.9, 0.1, 0.0)),
    steps_to_go=(2.6, 0.2),
)


def curve(num_episodes: int) -> DetectorCurve:
    """Return a detector that is at its best at s = 1."""
    return DetectorCurve(
        thresholds_steps=(0.1, 1.0, 10.0),
        precision=(1.0, 0.9, 0.5),
        recall=(0.0, 0.45, 0.5),
        num_detections=(0, 20, 40),
        delay_steps=(0.0, 1.5, 1.0),
        num_episodes=num_episodes,
        num_success=40,
    )


def choice(*sources: str, threshold_steps: float = 1.0) -> ThresholdChoice:
    """Return a chosen threshold with a curve a source."""
    curves = {source: curve(50 + 10 * row) for row, source in enumerate(sources)}
    return ThresholdChoice(
        threshold_steps=threshold_steps,
        rule="the best recall",
        at_threshold={name: detector.at(threshold_steps) for name, detector in curves.items()},
        curves=curves,
    )


def calibration(threshold_steps: float = 1.0) -> Calibration:
    """Return a calibration on held-out demonstrations and labelled rollouts."""
    threshold = choice(
        "held-out demonstrations", "labelled rollouts", threshold_steps=threshold_steps
    )
    return Calibration(
        threshold_steps=threshold.threshold_steps,
        rule=threshold.rule,
        at_threshold=threshold.at_threshold,
        curves=threshold.curves,
        reliability=RELIABILITY,
        rank_correlation=0.9,
        examples={"good": EXAMPLE, "bad": EXAMPLE},
    )


def header(command: str, config: Mapping[str, object]) -> RunHeader:
    """Return run.json of a run with these settings."""
    return RunHeader(
        format=FORMAT,
        command=command,
        config=config,
        git_revision="abc",
        versions={"nearer": "1", "torch": "2"},
        created="2026-01-02T03:04:05+00:00",
        inputs=RunInputs(data_sha256="0"),
    )


def drawn(num_steps: int, ended: str = "success_true") -> DrawnEpisode:
    """Return an episode of the point mass that moves on a line."""
    rows = range(num_steps + 1)
    return DrawnEpisode(
        agent_pos=tuple((0.1 * row, -0.05 * row, 0.0, 0.0) for row in rows),
        environment_state=((0.5, 0.5),) * (num_steps + 1),
        ended=ended,
        instruction="touch the goal",
    )


def info_of(evaluation: Evaluation, env: str) -> EvalInfo:
    """Return an eval_info.json of an evaluation."""
    return eval_info(evaluation, env=env, checkpoint="run", policy_sha256="0")


def evaluation(successes: int, episodes: int, *, num_steps: int = 10, seed: int = 0) -> Evaluation:
    """Return an evaluation whose first episodes succeed."""
    results = [
        EpisodeResult(
            seed=100 * seed + row,
            instruction="touch the goal",
            success=row < successes,
            num_steps=num_steps if row < successes else 140,
            actions_outside=0,
        )
        for row in range(episodes)
    ]
    return Evaluation(results=tuple(results), seed=seed, max_steps=140, seconds=2.0)


DETECTOR = DetectorMetrics(
    num_detections=20,
    num_correct_detections=18,
    num_success=40,
    halves=(HalfThreshold(precision=0.9, recall=0.5, is_precise_enough=True),),
    average_precision=0.8,
    rank_correlation=0.9,
    success_auc=None,
)
DISTANCE = DistanceGroup(
    from_steps=0,
    to_steps=4,
    num_frames=100,
    mean_absolute_error_steps=0.5,
    bias_steps=-0.25,
    spread_steps=0.75,
)
METRICS = RewardMetrics(
    num_frames=1234,
    failures=FailureMetrics(
        num_episodes=3,
        promised=0.1,
        promised_of_successes=0.9,
        lowest_steps_to_go=(1.0, 2.0, 3.0),
    ),
    rank_correlation=RankCorrelation(mean=0.9, ci95=(0.8, 1.0), num_episodes=40),
    by_distance=(DISTANCE,),
    by_predicted=(DISTANCE, replace(DISTANCE, from_steps=5, to_steps=9)),
    spread=SpreadMetrics(
        rank_correlation=0.5,
        rank_correlation_equally_far=0.25,
        groups=(SpreadGroup(spread_steps=1.0, mean_absolute_error_steps=0.5, num_frames=10),),
    ),
    reliability=RELIABILITY,
)
SLICE = SliceMetrics(
    num_detections=20,
    num_correct_detections=18,
    num_success=40,
    num_episodes=50,
    num_known_frames=1000,
    mean_absolute_error_steps=0.5,
    bias_steps=None,
    rank_correlation=0.9,
)


def reward_report(threshold_steps: float = 1.0) -> RewardReport:
    """Return a reward report on rollouts, with baselines."""
    source = SourceReport(
        labels="ground truth",
        is_ground_truth=True,
        remarks=SourceRemarks(run="run", audits=AUDIT),
        reward=METRICS,
        detector=DETECTOR,
        slices={"all": SLICE},
    )
    own = BaselineReport(seeds=(DETECTOR,), gap=None)
    other = BaselineReport(seeds=(DETECTOR, DETECTOR), gap=PrecisionGap(mean=0.1, ci95=(0.0, 0.2)))
    return RewardReport(
        checkpoint="run",
        weights_sha256="0",
        seed=0,
        unit="steps",
        trained_on="50 demonstrations",
        run_threshold_steps=None,
        recommended=choice("rollouts", threshold_steps=threshold_steps),
        sources={"rollouts": source},
        baselines=BaselineComparison(
            num_demonstrations=50,
            updates=10,
            num_seeds=2,
            settings=BaselineSettings(),
            sources={"rollouts": {"the checkpoint's own": own, "progress": other}},
        ),
        why_no_baselines="",
    )
