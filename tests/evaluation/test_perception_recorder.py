"""Believed and true positions are recorded beside an evaluation, and change nothing in it."""

from dataclasses import dataclass

import numpy as np
import pytest
from jaxtyping import Float32

from nearer.algorithm.model import FoundationModel, ModelPolicy
from nearer.core.arrays import Array
from nearer.core.spaces import Camera, Spaces
from nearer.envs.tabletop.language import vocabulary
from nearer.evaluation.perception import EFFECTOR, FIRST, SECOND
from nearer.evaluation.perception_recorder import (
    EVEN_EPISODES,
    EVEN_FRAMES,
    WORST_EPISODES,
    PerceptionRecorder,
    perception_recorder,
)
from nearer.evaluation.success import evaluate
from nearer.fleets.encoded import encoded
from nearer.fleets.gym import VectorFleet, make_fleet
from nearer.models.factory import new_model
from nearer.models.settings import MLPConfig, SmallVLAConfig
from nearer.models.small_vla import SmallVLA

SPACES = Spaces(
    agent_pos=2, environment_state=0, action=2, cameras=(Camera("front", 96, 128),), control_hz=5
)
BLOCKS_ENV, PLACE_ENV = "nearer/TabletopBlock2Block-v0", "nearer/TabletopBlock2Place-v0"
EPISODES, MAX_STEPS = 8, 4


def small_vla(*, has_plane: bool) -> SmallVLA:
    """Return a built-in model with an untrained policy; its plane is the image itself."""
    model = new_model("small-vla", SmallVLAConfig(hidden=8), SPACES, vocabulary(), seed=0)
    assert isinstance(model, SmallVLA)
    model.planar_features.uses_proprioception.fill_(has_plane)
    return model.eval()


@pytest.fixture(scope="module")
def model() -> SmallVLA:
    """A built-in model that maps image points to a plane."""
    return small_vla(has_plane=True)


def tabletop(env: str) -> VectorFleet:
    fleet = make_fleet(env, 4)
    assert isinstance(fleet, VectorFleet)
    return fleet


@dataclass(frozen=True)
class Recorded:
    recorder: PerceptionRecorder
    lengths: list[int]
    actions: list[Float32[Array, "steps action"]]


def act(env: str, model: FoundationModel, *, is_recorded: bool = True) -> Recorded:
    fleet = tabletop(env)
    recorder = perception_recorder(fleet, model)
    assert recorder is not None
    acting = recorder if is_recorded else encoded(fleet, model.vision_encoder)
    _, episodes = evaluate(
        acting, ModelPolicy(model), episodes=EPISODES, max_steps=MAX_STEPS, seed=3
    )
    fleet.close()
    return Recorded(
        recorder=recorder,
        lengths=[episode.num_steps for episode in episodes],
        actions=[episode.actions for episode in episodes],
    )


@pytest.fixture(scope="module")
def blocks(model: SmallVLA) -> Recorded:
    """A recorded evaluation with instructions that name two blocks."""
    return act(BLOCKS_ENV, model)


def test_perception_recorder_changes_no_action(blocks: Recorded, model: SmallVLA) -> None:
    unrecorded = act(BLOCKS_ENV, model, is_recorded=False)
    for one, other in zip(blocks.actions, unrecorded.actions, strict=True):
        assert np.array_equal(one, other)


def test_perception_recorder_has_every_observation_of_every_episode(blocks: Recorded) -> None:
    episodes = blocks.recorder.episodes()
    assert [len(episode.believed) for episode in episodes] == [n + 1 for n in blocks.lengths]
    for episode in episodes:
        assert all(episode.names(slot) for slot in (FIRST, SECOND, EFFECTOR))
        for points in (episode.true_image, episode.believed[..., :2], episode.believed_m):
            assert ((points >= 0) & (points <= 1)).all()


def test_perception_frames_are_chosen_by_rule(blocks: Recorded) -> None:
    perception, images = blocks.recorder.perception(BLOCKS_ENV)
    assert len(images) == len(perception.frames) == EVEN_EPISODES * EVEN_FRAMES + WORST_EPISODES
    assert {image.shape for image in images} == {(96, 128, 3)}
    episodes = blocks.recorder.episodes()
    even = [frame for frame in perception.frames if frame.rule == "evenly spaced"]
    assert [(frame.seed, frame.step) for frame in even] == [
        (episode.seed, step) for episode in episodes[:EVEN_EPISODES] for step in (0, 2, 4)
    ]
    worst = [frame for frame in perception.frames if frame.rule == "largest error"]
    largest = sorted((episode.errors_m[:, :2].max() for episode in episodes), reverse=True)
    shown = [max(located.error_mm for located in frame.objects[:2] if located) for frame in worst]
    assert shown == pytest.approx([1e3 * error for error in largest[:WORST_EPISODES]], rel=1e-4)


def test_perception_of_instructions_with_one_object_has_no_second(model: SmallVLA) -> None:
    recorded = act(PLACE_ENV, model)
    perception, _ = recorded.recorder.perception(PLACE_ENV)
    assert perception.first.all.frames == sum(recorded.lengths) + EPISODES
    assert perception.second.all.frames == 0
    assert all(frame.objects[SECOND] is None for frame in perception.frames)


def test_perception_recorder_without_positions_to_compare_is_none(model: SmallVLA) -> None:
    states = Spaces(agent_pos=4, environment_state=2, action=2)
    mlp = new_model("mlp", MLPConfig(hidden=4), states, (), seed=0)
    point_mass, fleet = make_fleet("nearer/PointMass-v0", 1), tabletop(BLOCKS_ENV)
    assert perception_recorder(point_mass, mlp) is None, "a model without vision"
    assert perception_recorder(point_mass, model) is None, "an env that does not know"
    assert perception_recorder(fleet, small_vla(has_plane=False)) is None, "a model without a plane"
    fleet.close()
