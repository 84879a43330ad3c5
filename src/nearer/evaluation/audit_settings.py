"""How often Stage 2 is audited, and when an audit raises an alarm."""

from dataclasses import dataclass
from typing import Literal

from nearer.algorithm.early_stopping import OnAlarm
from nearer.core.settings import check_settings

AuditedBy = Literal["simulator", "person"]
"""Who says whether an episode succeeded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditPlan:
    """How often and how closely Stage 2 is audited, and when to be alarmed.

    Attributes:
        audits: by ground truth, or a person (nearer watch).
        audit_every: iterations between audits; 0 for none.
        audit_episodes: episodes compared an audit, drawn at random.
        min_precision: fraction of detections to be right; less is an alarm.
        min_recall: fraction of successes to be detected; less is an alarm.
        min_trials: detections, or successful episodes, an alarm rests on.
        on_alarm: stop (code 3), keep (the policy before it), continue.
    """

    audits: AuditedBy = "simulator"
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

    def is_due(self, iteration: int) -> bool:
        """Tell whether an iteration, counted from 0, is audited."""
        return self.audit_every > 0 and iteration % self.audit_every == 0

    @property
    def by_ground_truth(self) -> bool:
        """Tell whether practice records the simulator's ground truth."""
        return self.audit_every > 0 and self.audits == "simulator"
