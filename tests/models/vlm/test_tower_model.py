"""Base class of models with a tower, by a tower of one token: the mean colour of an image."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nearer.algorithm.model import Inputs
from nearer.core.errors import ConfigError
from nearer.core.interfaces import Rngs
from nearer.core.spaces import Camera, Spaces
from nearer.models.settings import VLMConfig
from nearer.models.vlm.image_preprocessing import ImagePreprocessing
from nearer.models.vlm.tower_model import TowerModel

CAMERAS = (Camera("top", 2, 4), Camera("wrist", 2, 2))
SPACES = Spaces(agent_pos=2, environment_state=1, action=2, cameras=CAMERAS)
PREPROCESSING = ImagePreprocessing(height=2, width=2, mean=(0.5,) * 3, std=(0.5,) * 3)
RED, BLUE = (255, 0, 0), (0, 0, 255)


class MeanColour(TowerModel):
    """A token an image: its mean colour in 0..1, times a weight."""

    def __init__(
        self,
        settings: VLMConfig,
        spaces: Spaces = SPACES,
        preprocessing: ImagePreprocessing = PREPROCESSING,
        *,
        before_stage_one: bool = True,
    ) -> None:
        per_camera = [preprocessing] * len(spaces.cameras)
        network = nn.Linear(1, 1, bias=False)
        super().__init__(settings, spaces, network, per_camera, before_stage_one=before_stage_one)
        nn.init.constant_(network.weight, 2.0)
        self.counts, self.widths = [1, 1], [3, 3]
        self.steps_head = nn.Linear(3, settings.num_bins)

    @property
    def tower(self) -> list[nn.Module]:
        return [self.network]

    def encode_images(self, images: Tensor, camera: int) -> Tensor:
        return self.network.weight[0, 0] * images.float().mean(dim=(1, 2))[:, None] / 255

    def config(self) -> dict[str, object]:
        return {}

    def sample(self, inputs: Inputs, rngs: Rngs) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def log_prob(self, inputs: Inputs, actions: Tensor) -> Tensor:
        raise NotImplementedError

    def steps_to_go_logits(self, inputs: Inputs) -> Tensor:
        return self.steps_head(self.image_tokens(inputs)[-1][:, 0])

    def normalised_inputs(self, inputs: Inputs) -> Tensor:
        raise NotImplementedError


def images(top: tuple[int, ...], wrist: tuple[int, ...]) -> dict[str, Any]:
    """Return one image of each camera, of one colour."""
    return {
        "top": np.full((1, 2, 4, 3), top, np.uint8),
        "wrist": np.full((1, 2, 2, 3), wrist, np.uint8),
    }


def inputs_of(model: TowerModel) -> Inputs:
    """Return an episode's second frame: blue above, red at the wrist; it was the other way."""
    encoder = model.vision_encoder
    before = encoder.track(None, encoder.encode(images(RED, BLUE), ["go"]))
    features = encoder.track(before, encoder.encode(images(BLUE, RED), ["go"]))
    return Inputs(state=torch.zeros(1, 3), features=torch.from_numpy(features), instructions=["go"])


@pytest.mark.parametrize("tower", ["frozen", "trained"])
def test_image_tokens_of_two_frames_and_cameras_are_oldest_first(tower: Any) -> None:
    model = MeanColour(VLMConfig(tower=tower))
    tokens = [token.tolist() for token in model.image_tokens(inputs_of(model))]
    assert tokens == [[[[2, 0, 0]]], [[[0, 0, 2]]], [[[0, 0, 2]]], [[[2, 0, 0]]]]


def test_image_tokens_of_a_single_frame_are_those_of_the_present() -> None:
    model = MeanColour(VLMConfig(frames=1))
    tokens = [token.tolist() for token in model.image_tokens(inputs_of(model))]
    assert tokens == [[[[0, 0, 2]]], [[[2, 0, 0]]]]


@pytest.mark.parametrize("tower", ["frozen", "trained"])
def test_gradients_reach_the_tower_only_where_it_is_trained(tower: Any) -> None:
    model = MeanColour(VLMConfig(tower=tower))
    model.steps_to_go_logits(inputs_of(model)).sum().backward()
    assert (model.network.weight.grad is not None) == (tower == "trained")


def test_vision_encoder_of_a_trained_tower_is_raw_pixels_until_stage_one_is_over() -> None:
    """Bytes of 2 x 4 and 2 x 2 pixels before, two tokens of three numbers afterwards."""
    settings = VLMConfig(tower="trained")
    widths = [
        MeanColour(settings, before_stage_one=before).vision_encoder.encoding_width
        for before in (True, False)
    ]
    assert widths == [3 * (8 + 4), 6]


def test_normalise_by_keeps_action_units_and_quantiles_of_the_state() -> None:
    model = MeanColour(VLMConfig(action_levels=10))
    state = torch.linspace(0, 100, 101)[:, None] * torch.tensor([1.0, 2.0, -1.0])
    actions = torch.tensor([[0.5, -2.0]]).repeat(50, 1)
    none = torch.zeros(101, 0)
    model.normalise_by(Inputs(state=state, features=none, instructions=["go"] * 101), actions)
    assert model.tokens.units.tolist() == pytest.approx([0.05, 0.2])
    shown = Inputs(
        state=torch.tensor([[1.0, 198.0, -50.0], [50.0, 1000.0, -1000.0]]),
        features=none[:2],
        instructions=["go"] * 2,
    )
    assert model.unit_state(shown).tolist() == [[-1, 1, 0], [0, 1, -1]]


def test_load_state_dict_of_weights_with_other_preprocessing_is_refused() -> None:
    model = MeanColour(VLMConfig())
    MeanColour(VLMConfig()).load_state_dict(model.state_dict())
    other = ImagePreprocessing(height=2, width=2, mean=(0.4,) * 3, std=(0.5,) * 3)
    with pytest.raises(RuntimeError, match="preprocessed in another way"):
        MeanColour(VLMConfig(), preprocessing=other).load_state_dict(model.state_dict())


def test_tower_model_of_a_robot_without_a_camera_is_refused() -> None:
    blind = Spaces(agent_pos=2, environment_state=1, action=2)
    with pytest.raises(ConfigError, match="got a robot without a camera; pass --model mlp for st"):
        MeanColour(VLMConfig(), blind)
