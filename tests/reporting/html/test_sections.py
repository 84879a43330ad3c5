"""Sections on learning, losses, steps-to-go, detector and distributions."""

from dataclasses import replace

import pytest

from nearer.evaluation.audit import Audit
from nearer.evaluation.calibration import Calibration, PredictionExample
from nearer.evaluation.threshold import DetectorCurve
from nearer.reporting.html.run_data import Report, StageOne
from nearer.reporting.html.sections import (
    detector,
    distributions,
    learning,
    losses,
    steps_to_go,
)
from report_values import practice_records, report_of, words

CURVE = DetectorCurve(
    thresholds_steps=(0.1, 1.0, 10.0),
    precision=(1.0, 0.9, 0.5),
    recall=(0.0, 0.45, 0.5),
    num_detections=(0, 20, 40),
    delay_steps=(0.0, 1.5, 1.0),
    num_episodes=50,
    num_success=40,
)
EXAMPLE = PredictionExample(
    edges=(0.0, 2.0, 4.0),
    probabilities=((0.2, 0.3, 0.5), (0.9, 0.1, 0.0)),
    steps_to_go=(2.6, 0.2),
)
AUDIT = Audit(
    iteration=0,
    num_episodes=10,
    num_detections=8,
    num_correct_detections=8,
    num_success=9,
    num_ended_by_ground_truth=0,
    progress_steps=30.0,
    progress_variance=4.0,
)


@pytest.fixture
def calibrated(report: Report) -> StageOne:
    """A Stage-1 run whose threshold was chosen on this curve."""
    run = report.stage_one[0]
    assert isinstance(run.calibration, Calibration)
    calibration = replace(
        run.calibration,
        threshold_steps=1.0,
        rule="the best recall",
        curves={"labelled rollouts": CURVE},
        at_threshold={"labelled rollouts": CURVE.at(1.0)},
        examples={"good": EXAMPLE, "bad": EXAMPLE},
    )
    return replace(run, calibration=calibration)


def validated(run: StageOne) -> StageOne:
    """Return a run whose cloning loss is lowest at update 200, and whose steps-to-go loss falls."""
    records = [
        {
            "step": step,
            "sft/loss_bc": 2.0,
            "sft/loss_steps_to_go": 4.0,
            "sft/val_loss_bc": loss,
            "sft/val_loss_steps_to_go": 3.5 - step / 1000,
        }
        for step, loss in ((100, 2.0), (200, 1.25), (300, 1.5))
    ]
    return replace(run, records=records)


def test_learning_without_a_finished_iteration_names_the_command(report: Report) -> None:
    begun = replace(report.stage_two[0], records=[])
    text = words(learning(report_of([], [begun])))
    assert "No Stage-2 run with a finished iteration; make one with nearer improve" in text


def test_learning_of_several_runs_has_a_legend_of_them(report: Report) -> None:
    stage_two = replace(report.stage_two[0], records=practice_records(3))
    runs = [replace(stage_two, name=name, index=i) for i, name in enumerate(("first", "second"))]
    assert "━ first ━ second" in words(learning(report_of([], runs)))
    assert "━ practice" not in words(learning(report_of([], [stage_two])))


def test_losses_of_a_validated_run_name_the_selected_checkpoints(report: Report) -> None:
    text = words(losses(report_of([validated(report.stage_one[0])], [])))
    assert "Checkpoint of the policy, lowest held-out loss 1.250 nats at update 200" in text
    assert "Checkpoint of the reward model, lowest held-out loss 3.200 nats at update 300" in text


@pytest.mark.parametrize(
    ("setting", "sentences"),
    [
        (
            "policy_checkpoint",
            (
                "Checkpoint of the policy, the last one 1.500 nats at update 300",
                "The policy starts from the last checkpoint",
                "checkpoint with the lowest held-out steps-to-go loss becomes the frozen reward",
            ),
        ),
        (
            "reward_checkpoint",
            (
                "Checkpoint of the reward model, the last one",
                "The policy starts from the checkpoint with the lowest held-out cloning loss",
                "The last checkpoint becomes the frozen reward model",
            ),
        ),
    ],
)
def test_losses_of_a_last_checkpoint_say_so(
    report: Report, setting: str, sentences: tuple[str, ...]
) -> None:
    run = validated(report.stage_one[0])
    late = replace(run, training=replace(run.training, **{setting: "last"}))
    text = words(losses(report_of([late], [])))
    for sentence in sentences:
        assert sentence in text


def test_losses_with_the_instruction_objective_show_its_accuracy(report: Report) -> None:
    run = validated(report.stage_one[0])
    assert "Instruction" not in words(losses(report_of([run], [])))
    metrics = {"sft/loss_instruction": 1.5, "sft/val_accuracy_instruction": 0.64}
    run = replace(
        run,
        training=replace(run.training, other_instructions=7),
        records=[{**record, **metrics} for record in run.records],
    )
    text = words(losses(report_of([run], [])))
    assert "Instruction chosen among 8, held-out accuracy 64.0 %, chance 12.5 %" in text
    assert "The instruction objective does not select a checkpoint" in text


def test_losses_before_the_first_validation_name_the_command(report: Report) -> None:
    begun = replace(report.stage_one[0], records=[])
    assert "No validation yet; train on with nearer sft --resume" in words(
        losses(report_of([begun], []))
    )


def test_steps_to_go_names_error_and_number_of_frames(report: Report) -> None:
    run = report.stage_one[0]
    assert run.calibration is not None
    reliability = run.calibration.reliability
    text = words(steps_to_go(report))
    assert f"Held-out frames {reliability.num_frames:,}" in text
    error = f"{reliability.mean_absolute_error_steps:.1f}"
    assert f"Mean absolute error {error} control steps" in text


def test_steps_to_go_before_the_end_of_training_names_the_command(report: Report) -> None:
    begun = replace(report.stage_one[0], calibration=None)
    text = words(steps_to_go(report_of([begun], [])))
    assert "Not measured yet; finish the run with nearer sft --resume --out RUN" in text


def test_steps_to_go_without_stage_one_names_the_command(report: Report) -> None:
    text = words(steps_to_go(report_of([], report.stage_two)))
    assert "No Stage-1 run on this page; make one with nearer sft --data DATASET" in text


def test_detector_names_the_threshold_and_its_rates_with_n(calibrated: StageOne) -> None:
    text = words(detector(report_of([calibrated], [])))
    assert "Chosen threshold s = 1 control steps. How it was chosen: the best recall." in text
    assert "labelled rollouts 90.0 % 69.9 to 97.2 %, n = 20 45.0 % 30.7 to 60.2 %, n = 40" in text
    assert "n = 40 1.5" in text, "the delay"


def test_detector_without_a_correct_detection_has_no_delay(calibrated: StageOne) -> None:
    calibration = calibrated.calibration
    assert calibration is not None
    silent = replace(calibration, at_threshold={"labelled rollouts": CURVE.at(0.1)})
    text = words(detector(report_of([replace(calibrated, calibration=silent)], [])))
    assert "labelled rollouts – no trials 0.0 % 0.0 to 8.8 %, n = 40 –" in text


def test_detector_pools_all_audits_of_a_run(report: Report) -> None:
    audits = tuple(replace(AUDIT, iteration=i) for i in range(5))
    run = replace(report.stage_two[0], records=practice_records(5), audits=audits, before=None)
    text = words(detector(report_of([], [run])))
    assert "precision 100.0 % (95 % interval 91.2 to 100.0 %, n = 40)" in text
    assert "recall 88.9 % (95 % interval 76.5 to 95.2 %, n = 45)" in text


def test_detector_without_calibration_or_audits_names_both_commands(report: Report) -> None:
    run = replace(report.stage_two[0], audits=(), before=None)
    text = words(detector(report_of([], [run])))
    assert "finish one with nearer sft --resume --out RUN" in text
    assert "practise with nearer improve --run RUN --env ID --audit-every 8" in text


def test_detector_of_runs_without_their_stage_one_run_stands_apart(
    report: Report, calibrated: StageOne
) -> None:
    other = replace(report.stage_two[0], before=None)
    text = words(detector(report_of([calibrated], [other])))
    assert "Stage-2 runs whose Stage-1 run is not on this page" in text


def test_distributions_show_a_successful_and_a_failed_episode(calibrated: StageOne) -> None:
    text = words(distributions(report_of([calibrated], [])))
    assert "Successful episode" in text
    assert "Failed episode" in text
    assert "1 steps; d goes from 2.6 to 0.2." in text


def test_distributions_of_an_episode_that_succeeds_at_once_say_so(calibrated: StageOne) -> None:
    calibration = calibrated.calibration
    assert calibration is not None
    short = replace(EXAMPLE, probabilities=EXAMPLE.probabilities[:1], steps_to_go=(2.6,))
    run = replace(calibrated, calibration=replace(calibration, examples={"good": short}))
    assert "It succeeded at its first observation" in words(distributions(report_of([run], [])))


def test_distributions_without_labelled_rollouts_name_the_command(report: Report) -> None:
    run = report.stage_one[0]
    assert run.calibration is not None
    assert run.calibration.examples == {}, "the run was made without an env"
    assert "make them with nearer sft --data DATASET --calibration.env ID" in words(
        distributions(report_of([run], []))
    )


def test_sections_of_several_stage_one_runs_name_each(calibrated: StageOne) -> None:
    runs = [replace(calibrated, name=name) for name in ("run a", "run b")]
    html = steps_to_go(report_of(runs, []))
    assert html.count('<h3 class="run">') == 2
    assert {"run a", "run b"} <= {name for name in ("run a", "run b") if name in words(html)}
