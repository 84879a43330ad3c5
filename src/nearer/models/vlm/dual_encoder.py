"""A dual encoder as policy and reward model: two frozen towers with attention pooling and heads.

    images --image tower--> a vector a patch -----+
                                                  +--pooling--+-> trunk --> action tokens
    instruction --text tower--> one vector -------+           |
    proprioception -------------------------------------------+-> trunk --> steps-to-go bins

Both towers were pretrained together: the cosine between the vectors of a patch and of the sentence
says how well the patch shows what the sentence says. Pooling reads that similarity beside the
patches (`attention_pooling.py`). A frame's patches and a sentence's vector are computed once and
cached. Stage 1 can train the image tower; the text tower stays as it was pretrained.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import normalize

from nearer.algorithm.action_tokens import draw_tokens
from nearer.algorithm.model import Inputs
from nearer.core.interfaces import Rngs
from nearer.core.spaces import Spaces
from nearer.models.settings import AttentionPoolingConfig, VLMConfig
from nearer.models.small_vla import ActionHead, two_layers
from nearer.models.vlm.attention_masks import in_parts
from nearer.models.vlm.attention_pooling import AttentionPooling
from nearer.models.vlm.families import Network
from nearer.models.vlm.image_preprocessing import ImagePreprocessing
from nearer.models.vlm.text_tokens import TextTokenizer
from nearer.models.vlm.tower_model import TowerModel
from nearer.models.vlm.towers import DualTowers

_CACHED_SENTENCES = 10_000


class DualEncoder(TowerModel):
    """Towers that were pretrained together, with trained heads on top.

    Args:
        settings: how it is fine-tuned.
        sizes: of what is trained on top.
        spaces: of the robot; all its cameras are used.
        network: the model of transformers, with both towers.
        towers: what this kind does differently.
        text_tokenizer: of the text tower.
        preprocessing: of each camera's images.
        before_stage_one: the image tower may train, if the settings say so; it never does
            afterwards.

    Raises:
        ConfigError: there is no camera.
    """

    def __init__(
        self,
        settings: VLMConfig,
        sizes: AttentionPoolingConfig,
        spaces: Spaces,
        network: Network,
        towers: DualTowers,
        text_tokenizer: TextTokenizer,
        preprocessing: Sequence[ImagePreprocessing],
        *,
        before_stage_one: bool = False,
    ) -> None:
        super().__init__(
            settings, spaces, network, preprocessing, before_stage_one=before_stage_one
        )
        self.sizes, self.towers, self.text_tokenizer = sizes, towers, text_tokenizer
        self._build_heads()
        self._vector_cache: dict[str, Tensor] = {}
        network.requires_grad_(False).eval()
        for part in self.tower:
            part.requires_grad_(self.trains_tower)
        if self.trains_tower and settings.checkpointing:
            network.activation_checkpointing_enable({"use_reentrant": False})

    def _build_heads(self) -> None:
        """Set pooling, trunks and heads, which are trained on top of the towers."""
        sizes, spaces = self.sizes, self.spaces
        grids = [self.towers.grid(camera.height, camera.width) for camera in self.preprocessing]
        self.counts = [rows * columns + 1 for rows, columns in grids]
        self.widths = [count * self.towers.width for count in self.counts]
        state = spaces.agent_pos + spaces.environment_state
        frames = self.settings.frames
        self.pooling = AttentionPooling(sizes, self.towers.width, grids, frames)
        width = self.pooling.num_outputs + state
        self.action_trunk = two_layers(width, sizes.hidden, sizes.dropout)
        self.steps_trunk = two_layers(width, sizes.hidden, sizes.dropout)
        self.action_head = ActionHead(sizes.hidden, spaces.action, self.tokens.count)
        self.steps_head = nn.Linear(sizes.hidden, self.bins.count)

    @property
    def tower(self) -> list[nn.Module]:
        """Return the modules that turn pixels into vectors."""
        return self.towers.tower(self.network)

    def train(self, mode: bool = True) -> "DualEncoder":
        """Set the mode of the trained part; a frozen tower stays in evaluation mode."""
        super().train(mode)
        self.network.eval()
        for part in self.tower:
            part.train(mode and self.trains_tower)
        return self

    def load_state_dict(
        self, state_dict: Mapping[str, Tensor], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load weights that were trained on images preprocessed as they are here.

        Raises:
            RuntimeError: they were not, or the weights do not fit.
        """
        self._vector_cache.clear()
        return super().load_state_dict(state_dict, strict, assign)

    def config(self) -> dict[str, object]:
        """Return what rebuilds the module without its weights and its tokenizer."""
        return {
            "model": "dual-encoder",
            "settings": asdict(self.settings),
            "sizes": asdict(self.sizes),
            "spaces": asdict(self.spaces),
            "network": self.towers.config.to_dict(),
            "preprocessing": [asdict(camera) for camera in self.preprocessing],
        }

    def files(self) -> Mapping[str, str]:
        """Return the tokenizer."""
        return {"tokenizer.json": self.text_tokenizer.tokenizer.to_str()}

    def encode_images(self, images: Tensor, camera: int) -> Float[Tensor, "frames tokens numbers"]:
        """Return the tower's vectors of a camera's images, bytes or floats in 0..255."""
        pixels = self.preprocessing[camera](images.to(self.device))
        with self._autocast():
            return self.towers.encode(self.network, pixels).float()

    def sample(
        self, inputs: Inputs, rngs: Rngs
    ) -> tuple[Float[Tensor, "samples action"], Float[Tensor, "samples"]]:
        """Draw an action a row, axis by axis, with its exact log-probability."""
        return self._draw(self._pooled_inputs(inputs), rngs)

    def sample_and_steps_to_go(
        self, inputs: Inputs, rngs: Rngs
    ) -> tuple[
        Float[Tensor, "samples action"], Float[Tensor, "samples"], Float[Tensor, "samples bins"]
    ]:
        """Return what `sample` and `steps_to_go_logits` return, with one pooling for both."""
        pooled = self._pooled_inputs(inputs)
        return *self._draw(pooled, rngs), self.steps_head(self.steps_trunk(pooled)).cpu()

    def log_prob(
        self, inputs: Inputs, actions: Float[Tensor, "samples action"]
    ) -> Float[Tensor, "samples"]:
        """Return the log-probability of the tokens that the actions round to."""
        trunk = self.action_trunk(self._pooled_inputs(inputs))
        tokens = self.tokens.encode(actions.to(self.device)).unbind(dim=1)
        parts = [
            self.action_head(trunk, tokens[:axis], axis).gather(1, tokens[axis][:, None])
            for axis in range(self.spaces.action)
        ]
        return torch.cat(parts, dim=1).sum(dim=1).cpu()

    def steps_to_go_logits(self, inputs: Inputs) -> Float[Tensor, "samples bins"]:
        """Return unnormalised log-probabilities of the steps-to-go bins."""
        return self.steps_head(self.steps_trunk(self._pooled_inputs(inputs))).cpu()

    def normalised_inputs(self, inputs: Inputs) -> Float[Tensor, "samples inputs"]:
        """Return the vector of every whole image and the state, each of about unit size."""
        units = [normalize(tokens[:, -1], dim=1) for tokens in self.image_tokens(inputs)]
        # A unit vector of n components has components of about 1 / sqrt(n).
        scaled = [vector * vector.shape[1] ** 0.5 for vector in units]
        return torch.cat([*scaled, self.unit_state(inputs)], dim=1).cpu()

    def vectors(self, instructions: Sequence[str]) -> Float[Tensor, "samples numbers"]:
        """Return the text tower's vector of every instruction; each is computed once."""
        new = {text: self._vector(text) for text in set(instructions) - self._vector_cache.keys()}
        vectors = self._vector_cache | new
        self._vector_cache = vectors if len(vectors) <= _CACHED_SENTENCES else {}
        return torch.stack([vectors[text] for text in instructions])

    def _vector(self, instruction: str) -> Float[Tensor, "numbers"]:
        # Tensors made in inference mode cannot enter a later backward pass, and these are cached.
        with torch.inference_mode(False), torch.no_grad(), self._autocast():
            tokens = torch.tensor([self.text_tokenizer.tokens(instruction)], device=self.device)
            return self.towers.encode_text(self.network, tokens).float()

    def _pooled_inputs(self, inputs: Inputs) -> Float[Tensor, "samples pooled"]:
        """Return the trunks' input: pooled images beside the state."""
        vectors = self.vectors(inputs.instructions)
        state = self.unit_state(inputs)

        def pool(rows: slice) -> Tensor:
            pooled = self.pooling(self.image_tokens(inputs.rows(rows)), vectors[rows])
            return torch.cat([pooled, state[rows]], dim=1)

        return in_parts(pool, len(inputs))

    def _draw(self, pooled: Float[Tensor, "samples pooled"], rngs: Rngs) -> tuple[Tensor, Tensor]:
        """Draw the tokens of an action axis by axis."""
        trunk = self.action_trunk(pooled)
        total = torch.zeros(len(pooled))
        drawn: list[Tensor] = []
        for axis in range(self.spaces.action):
            log_prob = self.action_head(trunk, drawn, axis).cpu()
            token = draw_tokens(log_prob, rngs)
            total = total + log_prob.gather(1, token[:, None]).squeeze(1)
            drawn.append(token.to(self.device))
        return self.tokens.decode(torch.stack(drawn, dim=1)).cpu(), total

    def _autocast(self) -> AbstractContextManager[object]:
        enabled = self.settings.precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)
