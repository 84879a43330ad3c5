"""A vision-language model as policy and reward model: its outputs are added tokens.

    [images, proprioception] "What robot action to ...?" -> one token an action axis
    [images, proprioception] "How many steps to ...?"    -> one token, a bin of steps-to-go

Output tokens are added beside the vocabulary. Each has a row of input and output embeddings, which
starts as the mean of those of the words that say it ("+3", "42"). The distribution is a softmax
over these rows alone: no other token can be sampled, and log-probabilities are exact.

The part in brackets is a prefix that both prompts share: `sample_and_steps_to_go` computes it once,
followed by both suffixes, neither of which attends to the other.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from transformers import DynamicCache

from nearer.algorithm.action_tokens import draw_tokens
from nearer.algorithm.model import Inputs
from nearer.core.interfaces import Rngs
from nearer.core.spaces import Spaces
from nearer.models.settings import VLMConfig
from nearer.models.vlm.attention_masks import (
    DecodingState,
    PromptSuffix,
    in_parts,
    shared_prefix_mask,
    suffix_positions,
)
from nearer.models.vlm.families import Network, VLMFamily
from nearer.models.vlm.image_preprocessing import ImagePreprocessing
from nearer.models.vlm.prompts import Prompts, Task
from nearer.models.vlm.tower_model import TowerModel

_STATE_LEVELS = 256  # of a component of proprioception, as in the paper (Aloha)


class VLM(TowerModel):
    """A pretrained vision-language model with added output tokens.

    Args:
        settings: how it is fine-tuned.
        spaces: of the robot; all its cameras are used.
        network: the base model of transformers, without its language head.
        family: what its family does differently.
        prompts: its tokenizer.
        preprocessing: of each camera's images.
        before_stage_one: the tower may train, if the settings say so; it never does afterwards.

    Raises:
        ConfigError: there is no camera.
    """

    def __init__(
        self,
        settings: VLMConfig,
        spaces: Spaces,
        network: Network,
        family: VLMFamily,
        prompts: Prompts,
        preprocessing: Sequence[ImagePreprocessing],
        *,
        before_stage_one: bool = False,
    ) -> None:
        super().__init__(
            settings, spaces, network, preprocessing, before_stage_one=before_stage_one
        )
        self.family, self.prompts = family, prompts
        hidden = family.config.get_text_config().hidden_size
        self.action_tokens = nn.Embedding(self.tokens.count, hidden)
        self.action_head = nn.Linear(hidden, self.tokens.count, bias=False)
        self.steps_head = nn.Linear(hidden, settings.num_bins, bias=False)
        self.state_tokens = nn.Embedding(_STATE_LEVELS, hidden)
        self.counts = [family.tokens(camera.height, camera.width) for camera in self.preprocessing]
        self.widths = [count * family.streams * hidden for count in self.counts]
        self._set_prefix(self.state_low.numel())
        self._freeze()

    @property
    def tower(self) -> list[nn.Module]:
        """Return the modules that turn pixels into tokens."""
        return self.family.tower(self.network)

    @property
    def sharded_blocks(self) -> Sequence[nn.Module]:
        """Return the layers of the language model, and of a tower that trains."""
        return self.family.layers(self.network, with_tower=self.trains_tower)

    def train(self, mode: bool = True) -> "VLM":
        """Set the mode of the trained part; a frozen tower stays in evaluation mode."""
        super().train(mode)
        if not self.trains_tower:
            for part in self.tower:
                part.eval()
        return self

    def config(self) -> dict[str, object]:
        """Return what rebuilds the module without its weights and its tokenizer."""
        return {
            "model": "vlm",
            "settings": asdict(self.settings),
            "spaces": asdict(self.spaces),
            "network": self.family.config.to_dict(),
            "preprocessing": [asdict(camera) for camera in self.preprocessing],
        }

    def files(self) -> Mapping[str, str]:
        """Return the tokenizer."""
        return {"tokenizer.json": self.prompts.tokenizer.to_str()}

    def encode_images(self, images: Tensor, camera: int) -> Float[Tensor, "frames tokens numbers"]:
        """Return the tower's tokens of a camera's images, bytes or floats in 0..255."""
        pixels = self.preprocessing[camera](images.to(self.device))
        weight = next(self.tower[0].parameters())
        with self._autocast(weight.dtype):
            return self.family.encode(self.network, pixels.to(weight.dtype))

    def sample(
        self, inputs: Inputs, rngs: Rngs
    ) -> tuple[Float[Tensor, "samples action"], Float[Tensor, "samples"]]:
        """Draw an action a row, axis by axis, with its exact log-probability."""
        actions, log_prob, _ = self._act(inputs, rngs, ("action",))
        return actions, log_prob

    def sample_and_steps_to_go(
        self, inputs: Inputs, rngs: Rngs
    ) -> tuple[
        Float[Tensor, "samples action"], Float[Tensor, "samples"], Float[Tensor, "samples bins"]
    ]:
        """Return what `sample` and `steps_to_go_logits` return, with one pass for both prompts."""
        actions, log_prob, last = self._act(inputs, rngs, ("action", "steps"))
        return actions, log_prob, self.steps_head(last).cpu()

    def log_prob(
        self, inputs: Inputs, actions: Float[Tensor, "samples action"]
    ) -> Float[Tensor, "samples"]:
        """Return the log-probability of the tokens that the actions round to."""
        tokens = self.tokens.encode(actions.to(self.device))

        def log_prob_of(rows: slice) -> Tensor:
            hidden = self._hidden(inputs.rows(rows), "action", tokens[rows, :-1])
            log_prob = self.action_head(hidden).log_softmax(dim=-1)
            return log_prob.gather(2, tokens[rows, :, None]).sum(dim=(1, 2)).cpu()

        return in_parts(log_prob_of, len(inputs))

    def steps_to_go_logits(self, inputs: Inputs) -> Float[Tensor, "samples bins"]:
        """Return unnormalised log-probabilities of the steps-to-go bins."""

        def logits_of(rows: slice) -> Tensor:
            return self.steps_head(self.steps_hidden(inputs.rows(rows))).cpu()

        return in_parts(logits_of, len(inputs))

    def steps_hidden(self, inputs: Inputs) -> Float[Tensor, "samples hidden"]:
        """Return the hidden state at the last token of the steps-to-go prompt."""
        no_tokens = torch.zeros((len(inputs), 0), dtype=torch.int64, device=self.device)
        return self._hidden(inputs, "steps", no_tokens)[:, 0]

    def normalised_inputs(self, inputs: Inputs) -> Float[Tensor, "samples inputs"]:
        """Return the mean token of every image and the state, each of about unit size."""
        means = [tokens.mean(dim=1) for tokens in self.image_tokens(inputs)]
        normed = [torch.nn.functional.layer_norm(mean, mean.shape[1:]) for mean in means]
        return torch.cat([*normed, self.unit_state(inputs)], dim=1).float().cpu()

    def _set_prefix(self, state: int) -> None:
        """Set tokens and positions of the shared prefix: images, oldest first, then the state.

        The state's tokens stand in the vocabulary as 0; their embeddings replace these.
        """
        cameras = [*zip(self.preprocessing, self.counts, strict=True)] * self.settings.frames
        prefix = self.prompts.prefix([count for _, count in cameras]) + [0] * state
        grids = [self.family.grid(camera.height, camera.width) for camera, _ in cameras]
        positions = self.family.positions(self.network, prefix, grids)
        self.prefix = nn.Buffer(torch.tensor(prefix), persistent=False)
        self.prefix_positions = nn.Buffer(positions, persistent=False)

    def _freeze(self) -> None:
        """Set which weights train."""
        if self.settings.adapt == "full":
            self.network.requires_grad_(True)
        for part in self.tower:
            part.requires_grad_(self.trains_tower)
        # Distributed training requires that every trainable weight gets a gradient.
        if not self.state_low.numel():
            self.state_tokens.requires_grad_(False)
        if self.settings.checkpointing:
            self.network.activation_checkpointing_enable({"use_reentrant": False})

    def _hidden(
        self, inputs: Inputs, task: Task, outputs: Int64[Tensor, "samples known"]
    ) -> Float[Tensor, "samples known+1 hidden"]:
        """Return the hidden state before each output token, in one pass with teacher forcing."""
        suffix = self._suffix(task, inputs.instructions)
        real = torch.ones_like(outputs, dtype=torch.bool)
        embedded = self.action_tokens(outputs).to(suffix.embeddings.dtype)
        embeddings = torch.cat([suffix.embeddings, embedded], dim=1)
        suffix = PromptSuffix(embeddings, torch.cat([suffix.real, real], dim=1))
        return self._read_prompts(inputs, [suffix], None)[:, -outputs.shape[1] - 1 :]

    def _act(
        self, inputs: Inputs, rngs: Rngs, tasks: Sequence[Task]
    ) -> tuple[Tensor, Tensor, Float[Tensor, "samples hidden"]]:
        """Draw actions by the first prompt; return the last hidden state of the last one, too."""
        suffixes = [self._suffix(task, inputs.instructions) for task in tasks]
        cache = DynamicCache(config=self.family.config.get_text_config())
        hidden = self._read_prompts(inputs, suffixes, cache)
        first, *others = (suffix.real for suffix in suffixes)
        prefix = first.new_ones((len(first), len(self.prefix)))
        # Action tokens attend to the prefix and the action prompt, not to the other prompt.
        visible = torch.cat([prefix, first, *map(torch.zeros_like, others)], dim=1)
        position = self.prefix_positions.max() + 1 + first.sum(dim=1)
        start = hidden[:, prefix.shape[1] + first.shape[1] - 1]
        actions, log_prob = self._decode(DecodingState(cache, visible, position), start, rngs)
        return actions, log_prob, hidden[:, -1]

    def _decode(
        self, state: DecodingState, hidden: Float[Tensor, "samples hidden"], rngs: Rngs
    ) -> tuple[Tensor, Tensor]:
        """Draw the tokens of an action axis by axis."""
        total = torch.zeros(len(hidden))
        drawn: list[Tensor] = []
        for axis in range(self.spaces.action):
            log_prob = self.action_head(hidden).log_softmax(dim=-1).cpu()
            token = draw_tokens(log_prob, rngs)
            total = total + log_prob.gather(1, token[:, None]).squeeze(1)
            drawn.append(token.to(self.device))
            if axis + 1 < self.spaces.action:
                hidden = self._read_token(state, self.action_tokens(drawn[-1][:, None]))
        return self.tokens.decode(torch.stack(drawn, dim=1)).cpu(), total

    def _read_prompts(
        self, inputs: Inputs, suffixes: Sequence[PromptSuffix], cache: DynamicCache | None
    ) -> Float[Tensor, "samples read hidden"]:
        """Return hidden states of the prefix and of each suffix, as if each stood alone."""
        prefix, images = self._embed_prefix(inputs)
        # Every suffix starts at the position after the prefix.
        after = [
            self.prefix_positions.max() + 1 + suffix_positions(suffix.real) for suffix in suffixes
        ]
        positions = torch.cat(
            [self.prefix_positions[:, None].expand(-1, len(prefix), -1)]
            + [position.expand(len(self.prefix_positions), -1, -1) for position in after],
            dim=2,
        )
        allowed = shared_prefix_mask(
            len(self.prefix), [suffix.real for suffix in suffixes], self.family.both_ways
        )
        embeddings = torch.cat([prefix, *(suffix.embeddings for suffix in suffixes)], dim=1)
        return self._run(embeddings, allowed, positions, images, cache)

    def _read_token(
        self, state: DecodingState, embeddings: Float[Tensor, "samples 1 hidden"]
    ) -> Float[Tensor, "samples hidden"]:
        """Append one token to the cache and return its hidden state."""
        positions = state.position[:, None].expand(len(self.prefix_positions), -1, -1)
        state.visible = torch.nn.functional.pad(state.visible, (0, 1), value=True)
        state.position = state.position + 1
        return self._run(embeddings, state.visible[:, None], positions, None, state.cache)[:, -1]

    def _run(
        self,
        embeddings: Float[Tensor, "samples more hidden"],
        allowed: Bool[Tensor, "samples more read"],
        positions: Int64[Tensor, "axes samples more"],
        images: Any,
        cache: DynamicCache | None,
    ) -> Float[Tensor, "samples more hidden"]:
        """Return the network's last hidden states."""
        dtype: torch.dtype = self.network.get_input_embeddings().weight.dtype
        # Additive mask; the smallest number instead of -inf, or a row of padding would be NaN.
        mask = torch.zeros_like(allowed, dtype=dtype).masked_fill(~allowed, torch.finfo(dtype).min)
        self._set_checkpointing(cache is None and torch.is_grad_enabled())
        with self._autocast(dtype):
            outputs = self.network(
                inputs_embeds=embeddings.to(dtype),
                attention_mask=mask[:, None],
                position_ids=positions if len(positions) > 1 else positions[0],
                mm_encoder_outputs=None if images is None else {"image": images},
                cache=cache,
                use_cache=cache is not None,
            )
        return outputs.last_hidden_state.float()

    def _embed_prefix(self, inputs: Inputs) -> tuple[Float[Tensor, "samples prefix hidden"], Any]:
        """Return the embeddings of the prefix, and the images that replace its image tokens."""
        embeddings = self._embed(self.prefix.expand(len(inputs), -1))
        count = inputs.state.shape[1]
        if count:
            # -1..1 -> the nearest of 256 levels.
            levels = ((self.unit_state(inputs) + 1) / 2 * (_STATE_LEVELS - 1)).round().long()
            state = self.state_tokens(levels).to(embeddings.dtype)
            embeddings = torch.cat([embeddings[:, :-count], state], dim=1)
        # The network takes images sample by sample, where ours come slot by slot.
        slots = [tokens.to(embeddings.dtype).unbind(0) for tokens in self.image_tokens(inputs)]
        images = [tokens for sample in zip(*slots, strict=True) for tokens in sample]
        return embeddings, self.family.encoder_outputs(images)

    def _suffix(self, task: Task, instructions: Sequence[str]) -> PromptSuffix:
        tokens, real = self.prompts.suffix(task, instructions)
        return PromptSuffix(self._embed(tokens.to(self.device)), real.to(self.device))

    def _embed(self, tokens: Int64[Tensor, "samples read"]) -> Float[Tensor, "samples read hidden"]:
        return self.network.get_input_embeddings()(tokens)

    def _set_checkpointing(self, training: bool) -> None:
        """With activation checkpointing, recompute layers wherever gradients are needed.

        transformers does so only for layers in training mode, and in Stage 2 none is.
        """
        if self.settings.checkpointing:
            for layer in self.family.layers(self.network, with_tower=self.trains_tower):
                layer.training = training

    def _autocast(self, dtype: torch.dtype) -> AbstractContextManager[object]:
        """Return autocast to bfloat16, if it is set and weights of this dtype are float32."""
        enabled = self.settings.precision == "bfloat16" and dtype == torch.float32
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)
