"""The two or three objectives of Stage 1, and their losses on a part of a batch."""

from dataclasses import dataclass

from jaxtyping import Float, Int64
from torch import Tensor, nn

from nearer.algorithm.demonstrations import Demonstrations
from nearer.algorithm.losses import behavioural_cloning_loss, instruction_loss, steps_to_go_loss
from nearer.algorithm.model import FoundationModel
from nearer.core.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What a batch asks about: frames of the first two objectives, episodes of the third.

    Attributes:
        cloned: frames whose action is cloned.
        labelled: frames whose steps-to-go are predicted.
        episodes: whose instruction is predicted; None without the third objective.
    """

    cloned: Int64[Tensor, "cloned"]
    labelled: Int64[Tensor, "labelled"]
    episodes: Int64[Tensor, "episodes"] | None = None

    @property
    def fewest(self) -> int:
        """Count the rows of the objective that has the fewest."""
        return min(map(len, self._all()))

    def parts(self, count: int) -> list["Rows"]:
        """Return the rows in `count` parts of about one size, none of them empty.

        Raises:
            ConfigError: an objective has fewer rows.
        """
        if self.fewest < count:
            raise ConfigError(
                f"every objective must have a frame, or an episode, for each of {count} parts (of "
                f"--accumulate, and of processes), got {self.fewest}; lower --accumulate, start "
                "fewer processes, or raise --batch-size or --val-fraction"
            )
        split = [rows.tensor_split(count) for rows in self._all()]
        return [
            Rows(cloned=part[0], labelled=part[1], episodes=part[2] if len(part) > 2 else None)
            for part in zip(*split, strict=True)
        ]

    def _all(self) -> list[Tensor]:
        return [self.cloned, self.labelled, *([] if self.episodes is None else [self.episodes])]


class Objectives(nn.Module):
    """The objectives of Stage 1 as one call, which several processes can share."""

    def __init__(self, model: FoundationModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, demonstrations: Demonstrations, part: Rows, batch: Rows
    ) -> dict[str, Float[Tensor, ""]]:
        """Return what a part adds to the mean losses, and accuracy, of a whole batch."""
        model = self.model
        cloned = bc_loss(model, demonstrations, part.cloned)
        labelled = time_loss(model, demonstrations, part.labelled)
        values = {
            "loss_bc": cloned.sum() / len(batch.cloned),
            "loss_steps_to_go": labelled.sum() / len(batch.labelled),
        }
        if part.episodes is not None and batch.episodes is not None:
            scores = candidate_scores(model, demonstrations, part.episodes)
            correct = scores[:, 0] > scores[:, 1:].max(dim=1).values
            total = len(batch.episodes)
            values["loss_instruction"] = instruction_loss(scores).sum() / total
            values["accuracy_instruction"] = correct.float().sum() / total
        return values


def bc_loss(
    model: FoundationModel, demonstrations: Demonstrations, rows: Int64[Tensor, "rows"]
) -> Float[Tensor, "rows"]:
    """Return the behavioural-cloning loss of these frames."""
    log_prob = model.log_prob(demonstrations.inputs(rows), demonstrations.actions[rows])
    return behavioural_cloning_loss(log_prob)


def time_loss(
    model: FoundationModel, demonstrations: Demonstrations, rows: Int64[Tensor, "rows"]
) -> Float[Tensor, "rows"]:
    """Return the steps-to-go loss of these frames."""
    logits = model.steps_to_go_logits(demonstrations.inputs(rows))
    return steps_to_go_loss(logits, model.bins.index(demonstrations.steps_to_go[rows]))


def candidate_scores(
    model: FoundationModel, demonstrations: Demonstrations, episodes: Int64[Tensor, "rows"]
) -> Float[Tensor, "rows candidates"]:
    """Return how well each candidate fits what happened in these episodes, their own one first."""
    scores = model.instruction_scores(*demonstrations.ends(episodes))
    return scores.reshape(len(episodes), -1)
