"""calibration.json: how Stage 1 chose the detector's threshold, and how right steps-to-go is."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nearer.core.errors import ConfigError
from nearer.evaluation.reliability import Reliability
from nearer.evaluation.threshold import ThresholdChoice
from nearer.runs.hub import CALIBRATION
from nearer.runs.json_files import document_of, read_json_object, require, write_document


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionExample:
    """What the model predicts along one episode, for people to look at.

    Attributes:
        edges: lower edges of the bins, in the model's own steps.
        probabilities: p(k | o_t, g), a row an observation.
        steps_to_go: d, its expectation.
    """

    edges: tuple[float, ...]
    probabilities: tuple[tuple[float, ...], ...]
    steps_to_go: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse rows that are not of these bins and steps."""
        widths = {len(row) for row in self.probabilities}
        require(widths <= {len(self.edges)}, "probabilities must be one a bin", tuple(widths))
        rows = len(self.probabilities), len(self.steps_to_go)
        require(rows[0] == rows[1] > 0, "probabilities must have a row a step", rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration(ThresholdChoice):
    """calibration.json of a Stage-1 run.

    Attributes:
        reliability: of steps-to-go, on held-out demonstrations.
        rank_correlation: Spearman's, of d with the true steps-to-go of these.
        examples: good and bad -> an episode of the policy; empty without an env.
    """

    reliability: Reliability
    rank_correlation: float
    examples: Mapping[str, PredictionExample]


def read_calibration(path: Path, advice: str) -> Calibration:
    """Return a calibration.json.

    Args:
        path: the file.
        advice: what to do if it cannot be read; ends the sentence.

    Raises:
        ConfigError: it is not as nearer sft writes it.
    """
    document = read_json_object(path, advice)
    threshold = document.get("threshold_steps")
    number = threshold if isinstance(threshold, int | float) else math.nan
    if isinstance(threshold, bool) or not 0 <= number < math.inf:
        raise ConfigError(
            f"{path} must name threshold_steps, a finite number of 0 or more, got {threshold}; "
            f"{advice}"
        )
    return document_of(Calibration, document, path, advice)


def write_calibration(run: Path, calibration: Calibration) -> None:
    """Write calibration.json of a run."""
    write_document(run / CALIBRATION, calibration)
