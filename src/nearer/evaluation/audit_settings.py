"""How often Stage 2 is audited, and when an audit raises an alarm."""

from dataclasses import dataclass

from nearer.algorithm.early_stopping import OnAlarm
from nearer.core.settings import check_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditPlan:
    """How often and how closely Stage 2 is audited, and when to be alarmed.

    Attributes:
        audit_every: iterations between audits; 0 for none.
        audit_episodes: episodes compared an audit, drawn at random.
        min_precision: fraction of detections to be right; less is an alarm.
        min_recall: fraction of successes to be detected; less is an alarm.
        min_trials: detections, or successful episodes, an alarm rests on.
        on_alarm: stop (code 3), keep (the policy before it), continue.
    """

    audit_every: int = 8
    audit_episodes: int = 32
    min_precision: float = 0.8
    min_recall: float = 0.5
    min_trials: int = 10
    on_alarm: OnAlarm = "stop"

    def __post_init__(self) -> None:
        check_settings(
            self,
            audit_every="[0, inf)",
            audit_episodes="[1, inf)",
            min_precision="[0, 1]",
            min_recall="[0, 1]",
            min_trials="[1, inf)",
        )
