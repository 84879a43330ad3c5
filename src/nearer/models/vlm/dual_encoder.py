"""A dual encoder as policy and detector: two frozen towers, and the built-in model's two questions.

    pictures --image tower--> a vector a patch ---+
                                                  +--looking--+-> trunk --> action tokens
    instruction --text tower--> one vector -------+           |
    proprioception -------------------------------------------+-> trunk --> steps-to-go bins

Both towers were pretrained together, so where a patch's vector is like the sentence's, the picture
shows what the sentence says: that similarity is read beside the patches (`looking.py`). A frame's
patches and a sentence's vector are computed once and kept. Stage 1 can train the image tower; the
text tower stays as it was pretrained.
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
from nearer.models.settings import VLMConfig
from nearer.models.small_vla import ActionHead, two_layers
from nearer.models.vlm.attention_masks import in_parts
from nearer.models.vlm.attention_pooling import Looking, LookingSizes
from nearer.models.vlm.families import Network
from nearer.models.vlm.image_preprocessing import Preparing
from nearer.models.vlm.text_tokens import Sentences
from nearer.models.vlm.tower_model import Towered
from nearer.models.vlm.towers import Towers

_KEPT_SENTENCES = 10_000


class DualEncoder(Towered):
    """Towers that were pretrained together, with two questions on top.

    Args:
        settings: how it is fine-tuned.
        sizes: of what is trained on top.
        spaces: of the robot; all its cameras are looked through.
        network: the model of transformers, with both towers.
        towers: what this kind does differently.
        sentences: its tokenizer.
        preparing: how each camera's pictures are prepared.
        learns: Stage 1 is to come: the image tower may train then, and never after.

    Raises:
        ConfigError: there is no camera.
    """

    def __init__(
        self,
        settings: VLMConfig,
        sizes: LookingSizes,
        spaces: Spaces,
        network: Network,
        towers: Towers,
        sentences: Sentences,
        preparing: Sequence[Preparing],
        *,
        learns: bool = False,
    ) -> None:
        super().__init__(settings, spaces, network, preparing, learns=learns)
        self.sizes, self.towers, self.sentences = sizes, towers, sentences
        self._build_top()
        self._vectors: dict[str, Tensor] = {}
        network.requires_grad_(False).eval()
        for part in self.tower:
            part.requires_grad_(self.tower_learns)
        if self.tower_learns and settings.checkpointing:
            network.activation_checkpointing_enable({"use_reentrant": False})

    def _build_top(self) -> None:
        """Make what is trained on top of the towers."""
        sizes, spaces = self.sizes, self.spaces
        grids = [self.towers.grid(one.height, one.width) for one in self.preparing]
        self.counts = [rows * columns + 1 for rows, columns in grids]
        self.widths = [count * self.towers.width for count in self.counts]
        state = spaces.agent_pos + spaces.environment_state
        self.looking = Looking(sizes, self.towers.width, grids, self.settings.frames)
        width = self.looking.num_facts + state
        self.action_trunk = two_layers(width, sizes.hidden, sizes.dropout)
        self.steps_trunk = two_layers(width, sizes.hidden, sizes.dropout)
        self.action_head = ActionHead(sizes.hidden, spaces.action, self.tokens.count)
        self.steps_head = nn.Linear(sizes.hidden, self.bins.count)

    @property
    def tower(self) -> list[nn.Module]:
        """Return the modules that turn pixels into vectors."""
        return self.towers.tower(self.network)

    def train(self, mode: bool = True) -> "DualEncoder":
        """Set the mode of what trains; a frozen tower always stays as it serves."""
        super().train(mode)
        self.network.eval()
        for part in self.tower:
            part.train(mode and self.tower_learns)
        return self

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Take weights, if pictures were prepared for them as they are here.

        Raises:
            RuntimeError: they were not, or the weights do not fit.
        """
        self._vectors.clear()
        return super().load_state_dict(state_dict, strict, assign)

    def config(self) -> dict[str, Any]:
        """Return what rebuilds the module without its weights; its tokenizer is a file beside."""
        return {
            "model": "dual-encoder",
            "settings": asdict(self.settings),
            "sizes": asdict(self.sizes),
            "spaces": asdict(self.spaces),
            "network": self.towers.config.to_dict(),
            "preparing": [asdict(one) for one in self.preparing],
        }

    def files(self) -> Mapping[str, str]:
        """Return the tokenizer."""
        return {"tokenizer.json": self.sentences.tokenizer.to_str()}

    def see(self, pictures: Tensor, camera: int) -> Float[Tensor, "frames tokens numbers"]:
        """Return the vectors that the tower makes of a camera's pictures, bytes or 0..255."""
        pixels = self.preparing[camera](pictures.to(self.device))
        with self._arithmetic():
            return self.towers.see(self.network, pixels).float()

    def sample(
        self, inputs: Inputs, rngs: Rngs
    ) -> tuple[Float[Tensor, "samples action"], Float[Tensor, "samples"]]:
        """Draw an action a row, axis by axis, with its exact log-probability."""
        return self._draw(self._read(inputs), rngs)

    def answers(
        self, inputs: Inputs, rngs: Rngs
    ) -> tuple[
        Float[Tensor, "samples action"], Float[Tensor, "samples"], Float[Tensor, "samples bins"]
    ]:
        """Return what `sample` and `steps_to_go_logits` say; pictures are looked at once."""
        read = self._read(inputs)
        return *self._draw(read, rngs), self.steps_head(self.steps_trunk(read)).cpu()

    def log_prob(
        self, inputs: Inputs, actions: Float[Tensor, "samples action"]
    ) -> Float[Tensor, "samples"]:
        """Return the log-probability of the tokens that the actions round to."""
        trunk = self.action_trunk(self._read(inputs))
        tokens = self.tokens.encode(actions.to(self.device)).unbind(dim=1)
        parts = [
            self.action_head(trunk, tokens[:axis], axis).gather(1, tokens[axis][:, None])
            for axis in range(self.spaces.action)
        ]
        return torch.cat(parts, dim=1).sum(dim=1).cpu()

    def steps_to_go_logits(self, inputs: Inputs) -> Float[Tensor, "samples bins"]:
        """Return unnormalised log-probabilities of the steps-to-go bins."""
        return self.steps_head(self.steps_trunk(self._read(inputs))).cpu()

    def normalised_inputs(self, inputs: Inputs) -> Float[Tensor, "samples facts"]:
        """Return the vector of every whole picture and the state, each of about unit size."""
        whole = [normalize(one[:, -1], dim=1) for one in self.pictures_of(inputs)]
        seen = [one * one.shape[1] ** 0.5 for one in whole]
        return torch.cat([*seen, self.unit_state(inputs)], dim=1).cpu()

    def vectors(self, instructions: Sequence[str]) -> Float[Tensor, "samples numbers"]:
        """Return the text tower's vector of every instruction; each sentence is read once."""
        new = {one: self._vector(one) for one in set(instructions) - self._vectors.keys()}
        known = self._vectors | new
        self._vectors = known if len(known) <= _KEPT_SENTENCES else {}
        return torch.stack([known[one] for one in instructions])

    def _vector(self, instruction: str) -> Float[Tensor, "numbers"]:
        # What is kept may be learned from later, which a tensor of inference mode cannot.
        with torch.inference_mode(False), torch.no_grad(), self._arithmetic():
            tokens = torch.tensor([self.sentences.tokens(instruction)], device=self.device)
            return self.towers.read(self.network, tokens).float()

    def _read(self, inputs: Inputs) -> Float[Tensor, "samples read"]:
        """Return what both questions are answered from."""
        vectors = self.vectors(inputs.instructions)
        state = self.unit_state(inputs)

        def part(rows: slice) -> Tensor:
            seen = self.looking(self.pictures_of(inputs.rows(rows)), vectors[rows])
            return torch.cat([seen, state[rows]], dim=1)

        return in_parts(part, len(inputs))

    def _draw(self, read: Float[Tensor, "samples read"], rngs: Rngs) -> tuple[Tensor, Tensor]:
        trunk = self.action_trunk(read)
        total = torch.zeros(len(read))
        drawn: list[Tensor] = []
        for axis in range(self.spaces.action):
            log_prob = self.action_head(trunk, drawn, axis).cpu()
            token = draw_tokens(log_prob, rngs)
            total = total + log_prob.gather(1, token[:, None]).squeeze(1)
            drawn.append(token.to(self.device))
        return self.tokens.decode(torch.stack(drawn, dim=1)).cpu(), total

    def _arithmetic(self) -> AbstractContextManager[object]:
        wanted = self.settings.precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=wanted)
