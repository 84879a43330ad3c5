"""The model of the authors' notebook: an MLP for actions and another for steps-to-go.

It reads states and, with `images`, what every camera shows through a frozen trunk
(`TrunkVisionEncoder`): actions read where the robot will be at its next keyframes, as the images
predict it (`KeyframePredictor`), and steps-to-go the images' largest principal components besides,
or it could not tell whether the hand holds anything (docs/log.md).
"""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from nearer.algorithm.demonstrations import Demonstrations
from nearer.algorithm.model import FoundationModel, Inputs
from nearer.algorithm.steps_to_go import StepsToGoBins
from nearer.core.errors import ConfigError
from nearer.core.interfaces import Rngs
from nearer.core.seeds import Purpose, generator
from nearer.core.spaces import Spaces
from nearer.core.vision import VisionEncoder
from nearer.models.keyframes import KeyframePredictor, proprioception_at_keyframes
from nearer.models.pointing.efficientnet_lite0 import Lite0
from nearer.models.principal_components import PrincipalComponents
from nearer.models.settings import MLPConfig
from nearer.models.trunk_vision_encoder import TrunkVisionEncoder

_COMPONENTS = 64
"""That steps-to-go read. With 16 or 32 the detector is right less often, with 256 as well."""
_DROPOUT = 0.4
"""Of inputs and hidden units of steps-to-go in Stage 1, where there are images: without it the
detector gets worse with every update (docs/log.md)."""
_LOG_SQRT_2_PI = 0.9189385332046727  # log sqrt(2 pi), of the Gaussian density


class MLP(FoundationModel):
    """A diagonal Gaussian over actions and a categorical distribution over steps-to-go.

    The frozen trunk's weights are part of the model, so a checkpoint is complete.

    `sample` and `log_prob` take and return actions in the env's units. The log-probability is that
    of the normalised action, which differs by a constant.
    """

    normalisation = ("state_mean", "state_std", "action_mean", "action_std")

    def __init__(self, config: MLPConfig, spaces: Spaces, trunk: Lite0 | None = None) -> None:
        """Make a model.

        Args:
            config: sizes.
            spaces: of the robot.
            trunk: reads images, pretrained; None without `config.images`.

        Raises:
            ConfigError: it is to read images, and there is no camera.
        """
        super().__init__()
        if config.images and not spaces.cameras:
            raise ConfigError(
                "--mlp.images must have a camera's images, got a robot without a camera; leave it "
                "out, or add a camera"
            )
        _check_grippers(config.grippers, spaces.agent_pos)
        self.sizes = config
        self.spaces = spaces
        self.bins = StepsToGoBins(count=config.num_bins, width_steps=config.steps_per_bin)
        self.trunk = trunk
        state = spaces.agent_pos + spaces.environment_state
        self.components: PrincipalComponents | None = None
        self.keyframes: KeyframePredictor | None = None
        predicted = seen = 0
        if trunk:
            self.components = PrincipalComponents(TrunkVisionEncoder(trunk, spaces.cameras).width)
            predicted, seen = max(1, len(config.grippers)) * spaces.agent_pos, _COMPONENTS
            self.keyframes = KeyframePredictor(self.components.width, state, predicted)
        self.action_net = _three_layers(state + predicted, config.hidden, 2 * spaces.action)
        self.steps_to_go_net = _three_layers(
            state + predicted + seen, config.hidden, config.num_bins, _DROPOUT if trunk else 0
        )
        self._read_by_actions = state + predicted
        self.state_mean = nn.Buffer(torch.zeros(state))
        self.state_std = nn.Buffer(torch.ones(state))
        self.action_mean = nn.Buffer(torch.zeros(spaces.action))
        self.action_std = nn.Buffer(torch.ones(spaces.action))

    @property
    def vision_encoder(self) -> VisionEncoder | None:
        """Return the frozen trunk behind every camera, if images are read."""
        return TrunkVisionEncoder(self.trunk, self.spaces.cameras) if self.trunk else None

    def normalise_by(self, inputs: Inputs, actions: Float[Tensor, "samples action"]) -> None:
        """Store mean and deviation of states and actions; constants keep their unit."""
        self.state_mean.copy_(inputs.state.mean(dim=0))
        self.state_std.copy_(_nonzero_std(inputs.state))
        self.action_mean.copy_(actions.mean(dim=0))
        self.action_std.copy_(_nonzero_std(actions))

    def learn_in_hindsight(self, demonstrations: Demonstrations, seed: int) -> None:
        """Learn what images predict of the next keyframes, if images are read."""
        if self.components is None or self.keyframes is None:
            return
        inputs = demonstrations.statistics()
        targets = proprioception_at_keyframes(
            inputs.state[:, : self.spaces.agent_pos],
            demonstrations.episode_lengths,
            self.sizes.grippers,
        )
        rng = generator(Purpose.KEYFRAMES, seed)
        self.components.fit(inputs.features, rng)
        components = self.components(inputs.features)
        self.keyframes.fit(components, self._normalised(inputs.state), targets, rng)

    def config(self) -> dict[str, object]:
        """Return what rebuilds the module without its weights."""
        return {"model": "mlp", "sizes": asdict(self.sizes), "spaces": asdict(self.spaces)}

    def sample(
        self, inputs: Inputs, rngs: Rngs
    ) -> tuple[Float[Tensor, "samples action"], Float[Tensor, "samples"]]:
        """Draw an action a row, in the env's units, with its exact log-probability."""
        mean, scale = self._gaussian(inputs)
        width = self.spaces.action
        noise = np.stack([rng.standard_normal(width, np.float32) for rng in rngs])
        normalised = mean + scale * torch.from_numpy(noise)
        actions = normalised * self.action_std + self.action_mean
        return actions, self._log_density(mean, scale, actions)

    def log_prob(
        self, inputs: Inputs, actions: Float[Tensor, "samples action"]
    ) -> Float[Tensor, "samples"]:
        """Return the Gaussian log-density of the normalised actions."""
        return self._log_density(*self._gaussian(inputs), actions)

    def normalised_inputs(self, inputs: Inputs) -> Float[Tensor, "samples inputs"]:
        """Return the normalised state and, where images are read, what they predict and show.

        A reward model that reads no images may be shown the features of a policy that does.
        """
        state = self._normalised(inputs.state)
        if self.components is None or self.keyframes is None:
            return state
        components = self.components(inputs.features)
        seen = torch.cat([self.keyframes(components, state), components[:, :_COMPONENTS]], dim=1)
        limit = self.sizes.max_deviation
        return torch.cat([state, seen.clamp(-limit, limit)], dim=1)

    def steps_to_go_logits(self, inputs: Inputs) -> Float[Tensor, "samples bins"]:
        """Return unnormalised log-probabilities of the steps-to-go bins."""
        return self.steps_to_go_net(self.normalised_inputs(inputs))

    def _gaussian(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        read = self.normalised_inputs(inputs)[:, : self._read_by_actions]
        mean, raw_scale = self.action_net(read).chunk(2, dim=-1)
        scale = nn.functional.softplus(raw_scale) + self.sizes.min_scale
        largest = self.sizes.max_scale
        return mean, scale if largest is None else scale.clamp(max=largest)

    def _log_density(self, mean: Tensor, scale: Tensor, actions: Tensor) -> Tensor:
        normalised = (actions - self.action_mean) / self.action_std
        squared = ((normalised - mean) / scale).square()
        return (-0.5 * squared - scale.log() - _LOG_SQRT_2_PI).sum(dim=-1)

    def _normalised(self, state: Tensor) -> Tensor:
        limit = self.sizes.max_deviation
        return ((state - self.state_mean) / self.state_std).clamp(-limit, limit)


def _check_grippers(grippers: Sequence[int], agent_pos: int) -> None:
    wrong = [gripper for gripper in grippers if not 0 <= gripper < agent_pos]
    if wrong or len(set(grippers)) < len(grippers):
        raise ConfigError(
            f"--mlp.grippers must be different numbers from 0 to {agent_pos - 1}, as "
            f"observation.state has {agent_pos} numbers, got {list(grippers)}; correct them"
        )


def _three_layers(width_in: int, hidden: int, width_out: int, dropout: float = 0) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in (width_in, hidden, hidden):
        layers += [nn.Dropout(dropout)] if dropout else []
        layers += [nn.Linear(width, hidden), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden, width_out))


def _nonzero_std(values: Float[Tensor, "samples axes"]) -> Float[Tensor, "axes"]:
    """Return the standard deviation of each axis; 1 where it is constant."""
    std = values.std(dim=0)
    return torch.where(std > 0, std, torch.ones_like(std))
