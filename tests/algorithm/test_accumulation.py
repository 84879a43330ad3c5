"""A batch in several parts: every row once, fewer frames at a time, the same losses."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from distributed_jobs import SPACES, SUMMATION_TOLERANCE, demonstrations
from nearer.algorithm.demonstrations import split_by_episode
from nearer.algorithm.model import Inputs
from nearer.algorithm.sft import sft, validate
from nearer.algorithm.sft_objectives import Objectives, Rows
from nearer.algorithm.sft_settings import SFTTraining
from nearer.core.errors import ConfigError
from nearer.models.mlp import MLP
from nearer.models.settings import MLPConfig
from nearer.runs.run import Run


@given(
    sizes=st.lists(st.integers(1, 40), min_size=2, max_size=3),
    count=st.integers(1, 9),
    parts=st.integers(1, 9),
)
@settings(deadline=None)
def test_rows_in_parts_hold_every_row_once(sizes: list[int], count: int, parts: int) -> None:
    cloned, labelled, *episodes = (torch.randint(100, (size,)) for size in sizes)
    rows = Rows(cloned=cloned, labelled=labelled, episodes=episodes[0] if episodes else None)
    if min(sizes) < count * parts:
        with pytest.raises(ConfigError, match=f"each of {count * parts} parts.*got {min(sizes)}"):
            rows.parts(count * parts)
        return
    split = rows.parts(count * parts)
    for name in ("cloned", "labelled", "episodes"):
        if getattr(rows, name) is not None:
            pieces = [getattr(part, name) for part in split]
            assert torch.equal(torch.cat(pieces), getattr(rows, name))
            lengths = {len(piece) for piece in pieces}
            assert 0 < min(lengths) <= max(lengths) <= min(lengths) + 1


class FrameCountingModel(MLP):
    """Records the largest number of frames in one call."""

    most_frames = 0

    def log_prob(self, inputs: Inputs, actions: Tensor) -> Tensor:
        self.most_frames = max(self.most_frames, len(inputs.state))
        return super().log_prob(inputs, actions)

    def steps_to_go_logits(self, inputs: Inputs) -> Tensor:
        self.most_frames = max(self.most_frames, len(inputs.state))
        return super().steps_to_go_logits(inputs)


@pytest.mark.parametrize("accumulate", [1, 3, 12])
def test_sft_with_accumulation_evaluates_fewer_frames_at_once(
    accumulate: int, tmp_path: Path
) -> None:
    data = replace(demonstrations(), candidates=None)
    model = FrameCountingModel(MLPConfig(hidden=8), SPACES)
    training = SFTTraining(updates=2, batch_size=36, accumulate=accumulate, val_fraction=0.5)
    with Run.create(tmp_path / "run", "sft", {}) as run:
        split = split_by_episode(data, training.val_fraction, training.seed)
        sft(training, *split, model, run)
    held_out_frames = 60
    assert model.most_frames == (held_out_frames if accumulate == 1 else 36 // accumulate)
    objectives = Objectives(model)
    in_parts = validate(objectives, data, rows_a_part=7)
    at_once = validate(objectives, data)
    assert in_parts == pytest.approx(at_once, rel=SUMMATION_TOLERANCE)
