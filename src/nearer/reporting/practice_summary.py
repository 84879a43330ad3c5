"""What `nearer improve` tells a person before practice and after it, a line a fact.

before_practice    where calibration gives no reason to expect anything
after_practice     what was detected, which policy is kept, what the audits found, which robots
                   failed, how well they kept their control rate
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from nearer.core.metrics import Record
from nearer.evaluation.audit import summary_lines
from nearer.evaluation.calibration import read_calibration
from nearer.evaluation.person_audit import audits_of
from nearer.evaluation.reward_model import CALIBRATE, calibration_of
from nearer.evaluation.threshold import DetectorCurve
from nearer.fleets.actors.control_log import CONTROL, read_control
from nearer.fleets.actors.faults import FAULTS, Fault, read_faults
from nearer.runs.checkpoint import linked_step
from nearer.runs.metrics import count, read_metrics


def before_practice(source: Path, threshold_steps: float | None) -> list[str]:
    """Return what speaks against practising with a reward model; empty where nothing is known.

    Args:
        source: the run or checkpoint that the reward model is from.
        threshold_steps: s, in the model's own steps; None: as calibrated.

    Raises:
        ConfigError: calibration.json is damaged.
    """
    path = calibration_of(source)
    calibration = read_calibration(path, CALIBRATE) if path.is_file() else None
    if threshold_steps is None:
        threshold_steps = calibration.threshold_steps if calibration else None
    if threshold_steps is None:
        return []
    curves = calibration.curves.items() if calibration else ()
    doubts = [_doubt(name, curve, threshold_steps) for name, curve in curves]
    if threshold_steps <= 0:
        doubts.insert(0, "the detector cannot fire at a threshold of 0 steps; pass --threshold")
    return [doubt for doubt in doubts if doubt]


def _doubt(name: str, curve: DetectorCurve, threshold_steps: float) -> str | None:
    episodes = f"{curve.num_episodes} {name} of Stage 1"
    if not curve.num_success:
        return (
            f"none of the {episodes} was a success: practice may have none to learn from; train on "
            "more demonstrations"
        )
    measured = threshold_steps <= curve.thresholds_steps[-1]
    if measured and not curve.at(threshold_steps).recall:
        return (
            f"at a threshold of {threshold_steps:g} the detector rightly finds none of the "
            f"{curve.num_success} successes among the {episodes}; pass another --threshold"
        )
    return None


def after_practice(root: Path) -> list[str]:
    """Return what a run of Stage 2 came to: detections, the policy kept, audits and alarms.

    Raises:
        ConfigError: a file of the run is damaged.
    """
    records = read_metrics(root)
    iterations = len(records)
    audits = [audit for audit in audits_of(root) if audit.iteration < iterations]
    control = [record.line for record in read_control(root / CONTROL)[-1:]]
    faults = _faults(read_faults(root / FAULTS))
    told = [*summary_lines(audits), *faults, *control]
    return [_practised(root, records), *told, *_alarms(records)]


def _practised(root: Path, records: Sequence[Record]) -> str:
    step = linked_step(root, "policy")
    kept = f"that of iteration {step}" if step else "Stage 1's"
    episodes, steps, detected = (
        sum(count(record, f"practice/{name}") for record in records)
        for name in ("iteration_episodes", "iteration_env_steps", "detected")
    )
    return (
        f"practice   {detected:,} of {episodes:,} episodes detected, {steps:,} control steps; the "
        f"policy kept is {kept}"
    )


def _faults(faults: Sequence[Fault]) -> list[str]:
    if not faults:
        return []
    kinds = Counter(fault.kind for fault in faults)
    of_each = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())
    dropped = sum(fault.dropped_episodes for fault in faults)
    alone = sum(fault.again_in_s is None for fault in faults)
    left = f", {alone} actors left alone" if alone else ""
    return [
        f"faults     {len(faults)} of robots ({of_each}): {dropped} unfinished episodes "
        f"dropped{left}; see {FAULTS}"
    ]


def _alarms(records: Sequence[Record]) -> list[str]:
    alarmed = [record for record in records if record.get("alarm")]
    if not alarmed:
        return []
    times = "once" if len(alarmed) == 1 else f"{len(alarmed)} times"
    last = alarmed[-1]
    return [f"ALARM      {times}, last in iteration {last['step']}: {last['alarm']}"]
