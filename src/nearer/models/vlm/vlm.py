"""A vision-language model as policy and detector: answers are added tokens.

    [pictures, proprioception] "What robot action to ...?" -> one token an action axis
    [pictures, proprioception] "How many steps to ...?"    -> one token, a bin of steps-to-go

The answers' tokens are added beside the vocabulary, each with a row of input and output numbers
that starts as the mean of the words that say it ("+3", "42"). A softmax over these rows alone is
the distribution: an answer that is no action cannot be sampled, and log-probabilities are exact.

What stands in brackets comes first and is the same for both questions: `answers` reads it once.
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from transformers import DynamicCache

from nearer.actions import NUM_TOKENS, ActionTokens, action_units, draw_tokens
from nearer.errors import ConfigError
from nearer.model import FoundationModel, Inputs
from nearer.models.vlm.config import VLMConfig
from nearer.models.vlm.families import Family, Network
from nearer.models.vlm.pictures import Preparing
from nearer.models.vlm.prompts import Prompts, Question
from nearer.models.vlm.sight import PixelSight, TowerSight
from nearer.protocols import Randomness, Sight, Spaces
from nearer.steps_to_go import StepsToGoBins

_STATE_LEVELS = 256  # of a number of proprioception, as in the paper (Aloha)
_ROWS_AT_ONCE = 32  # questions, where nothing is learned; bounds the memory of a large buffer


@dataclass(slots=True)
class _Read:
    """What a network has read of some questions so far: keys and values, and where it stands.

    Attributes:
        cache: keys and values of every layer.
        real: which of the tokens read count.
        place: position of the next token.
    """

    cache: DynamicCache
    real: Bool[Tensor, "samples read"]
    place: Int64[Tensor, "samples"]


class VLM(FoundationModel):
    """A pretrained language model that sees, with answers of its own.

    Args:
        settings: how it is fine-tuned.
        spaces: of the robot; all its cameras are looked through.
        network: the base model of transformers, without its language head.
        family: what its family does differently.
        prompts: its tokenizer.
        preparing: how each camera's pictures are prepared.
        learns: Stage 1 is to come: its tower may train then, and never after.

    Raises:
        ConfigError: there is no camera.
    """

    normalisation = ("tokens.units", "state_low", "state_high", "prepared")

    def __init__(
        self,
        settings: VLMConfig,
        spaces: Spaces,
        network: Network,
        family: Family,
        prompts: Prompts,
        preparing: Sequence[Preparing],
        *,
        learns: bool = False,
    ) -> None:
        super().__init__()
        if not spaces.cameras:
            raise ConfigError(
                "a vision-language model must have pictures to look at, got a robot without a "
                "camera; pass --model mlp for states"
            )
        self.settings, self.spaces = settings, spaces
        self.family, self.prompts = family, prompts
        self.preparing = tuple(preparing)
        self.bins = StepsToGoBins(count=settings.num_bins, width_steps=settings.steps_per_bin)
        self.tower_learns = learns and settings.tower == "trained"
        self.network = network
        hidden = family.config.get_text_config().hidden_size
        state = spaces.agent_pos + spaces.environment_state
        self.tokens = ActionTokens(torch.ones(spaces.action))
        self.action_tokens = nn.Embedding(NUM_TOKENS, hidden)
        self.action_head = nn.Linear(hidden, NUM_TOKENS, bias=False)
        self.steps_head = nn.Linear(hidden, settings.num_bins, bias=False)
        self.state_tokens = nn.Embedding(_STATE_LEVELS, hidden)
        self.state_low = nn.Buffer(-torch.ones(state))
        self.state_high = nn.Buffer(torch.ones(state))
        self.prepared = nn.Buffer(torch.stack([one.numbers() for one in preparing]))
        self.counts = [family.tokens(one.height, one.width) for one in self.preparing]
        self.widths = [count * family.streams * hidden for count in self.counts]
        self._lay_out(state)
        self._choose_what_learns()

    @property
    def sight(self) -> Sight:
        """Return the frozen tower; the bare pictures while Stage 1 trains it."""
        if self.tower_learns:
            return PixelSight(cameras=self.spaces.cameras, frames=self.settings.frames)
        return TowerSight(self)

    @property
    def tower(self) -> list[nn.Module]:
        """Return the modules that turn pixels into tokens."""
        return self.family.tower(self.network)

    @property
    def device(self) -> torch.device:
        """Return where it computes; its answers come back to the processor."""
        return self.steps_head.weight.device

    def train(self, mode: bool = True) -> "VLM":
        """Set the mode of what trains; a frozen tower always stays as it serves."""
        super().train(mode)
        if not self.tower_learns:
            for part in self.tower:
                part.eval()
        return self

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Take weights, if pictures were prepared for them as they are here.

        Raises:
            RuntimeError: they were not, or the weights do not fit.
        """
        if not torch.equal(state_dict["prepared"].cpu(), self.prepared.cpu()):
            raise RuntimeError("weights of pictures that were prepared in another way")
        return super().load_state_dict(state_dict, strict, assign)

    def config(self) -> dict[str, Any]:
        """Return what rebuilds the module without its weights; its tokenizer is a file beside."""
        return {
            "model": "vlm",
            "settings": asdict(self.settings),
            "spaces": asdict(self.spaces),
            "network": self.family.config.to_dict(),
            "preparing": [asdict(one) for one in self.preparing],
        }

    def files(self) -> Mapping[str, str]:
        """Return the tokenizer."""
        return {"tokenizer.json": self.prompts.tokenizer.to_str()}

    def normalise_by(self, inputs: Inputs, actions: Float[Tensor, "acted action"]) -> None:
        """Keep action units, and the range of all but 2 % of each number of the state."""
        self.tokens.units.copy_(action_units(actions))
        if inputs.state.shape[1]:
            ends = torch.tensor([0.01, 0.99])
            low, high = torch.quantile(inputs.state[:1_000_000], ends, dim=0)
            self.state_low.copy_(low)
            self.state_high.copy_(torch.where(high > low, high, low + 1))

    def see(self, pictures: Tensor, camera: int) -> Float[Tensor, "frames tokens numbers"]:
        """Return the tokens that the tower makes of a camera's pictures, bytes or 0..255."""
        pixels = self.preparing[camera](pictures.to(self.device))
        weight = next(self.tower[0].parameters())
        with self._arithmetic(weight.dtype):
            return self.family.see(self.network, pixels.to(weight.dtype))

    def sample(
        self, inputs: Inputs, randomness: Randomness
    ) -> tuple[Float[Tensor, "samples action"], Float[Tensor, "samples"]]:
        """Draw an action a row, axis by axis, with its exact log-probability."""
        return self._sample(self._read_prefix(inputs), inputs, randomness)

    def answers(
        self, inputs: Inputs, randomness: Randomness
    ) -> tuple[
        Float[Tensor, "samples action"], Float[Tensor, "samples"], Float[Tensor, "samples bins"]
    ]:
        """Return what `sample` and `steps_to_go_logits` say; pictures are read once."""
        read = self._read_prefix(inputs)
        prefix = read.real, read.place
        actions, log_prob = self._sample(read, inputs, randomness)
        read.cache.crop(prefix[0].shape[1] - read.real.shape[1])
        read.real, read.place = prefix
        hidden = self._read_question(read, "steps", inputs.instructions)
        return actions, log_prob, self.steps_head(hidden).cpu()

    def log_prob(
        self, inputs: Inputs, actions: Float[Tensor, "samples action"]
    ) -> Float[Tensor, "samples"]:
        """Return the log-probability of the tokens that the actions round to."""
        tokens = self.tokens.encode(actions.to(self.device))

        def part(rows: slice) -> Tensor:
            hidden = self._hidden(inputs.rows(rows), "action", tokens[rows, :-1])
            log_prob = self.action_head(hidden).log_softmax(dim=-1)
            return log_prob.gather(2, tokens[rows, :, None]).sum(dim=(1, 2)).cpu()

        return _in_parts(part, len(inputs))

    def steps_to_go_logits(self, inputs: Inputs) -> Float[Tensor, "samples bins"]:
        """Return unnormalised log-probabilities of the steps-to-go bins."""

        def part(rows: slice) -> Tensor:
            none = torch.zeros((len(inputs.state[rows]), 0), dtype=torch.int64)
            hidden = self._hidden(inputs.rows(rows), "steps", none.to(self.device))
            return self.steps_head(hidden[:, 0]).cpu()

        return _in_parts(part, len(inputs))

    def facts(self, inputs: Inputs) -> Float[Tensor, "samples facts"]:
        """Return the mean token of every picture and the state, each of about unit size."""
        pictures = [one.mean(dim=1) for one in self._slots(inputs.features.to(self.device))]
        seen = [torch.nn.functional.layer_norm(one, one.shape[1:]) for one in pictures]
        return torch.cat([*seen, self._unit_state(inputs)], dim=1).float().cpu()

    def _lay_out(self, state: int) -> None:
        """Place the tokens that all questions share: pictures, oldest first, then the state."""
        shown = [*zip(self.preparing, self.counts, strict=True)] * self.settings.frames
        prefix = self.prompts.prefix([count for _, count in shown]) + [0] * state
        grids = [self.family.grid(one.height, one.width) for one, _ in shown]
        places = self.family.positions(self.network, prefix, grids)
        self.prefix = nn.Buffer(torch.tensor(prefix), persistent=False)
        self.places = nn.Buffer(places, persistent=False)

    def _choose_what_learns(self) -> None:
        if self.settings.adapt == "full":
            self.network.requires_grad_(True)
        for part in self.tower:
            part.requires_grad_(self.tower_learns)
        if self.settings.checkpointing:
            self.network.activation_checkpointing_enable({"use_reentrant": False})

    def _hidden(
        self, inputs: Inputs, question: Question, answered: Int64[Tensor, "samples known"]
    ) -> Float[Tensor, "samples known+1 hidden"]:
        """Return what each answer is read from, all in one pass: the way to learn."""
        embedded, seen = self._embed_prefix(inputs)
        asked, real = self._asked(question, inputs.instructions)
        words = [embedded, self._embed(asked), self.action_tokens(answered)]
        known = torch.ones_like(answered, dtype=torch.bool)
        prefix = real.new_ones((len(real), len(self.prefix)))
        real = torch.cat([prefix, real, known], dim=1)
        settings = self.family.prefix_settings(len(self.prefix), real.shape[1], len(real))
        start = self.places.max() + 1
        after = start + _counted(real[:, len(self.prefix) :])
        read = self._run(words, real, self._all_places(after), seen, settings, None)
        return read[:, -answered.shape[1] - 1 :]

    def _read_prefix(self, inputs: Inputs) -> _Read:
        embedded, seen = self._embed_prefix(inputs)
        count, length = embedded.shape[:2]
        cache = DynamicCache(config=self.family.config.get_text_config())
        real = torch.ones((count, length), dtype=torch.bool, device=self.device)
        settings = self.family.prefix_settings(length, length, count)
        places = self.places[:, None].expand(-1, count, -1)
        self._run([embedded], real, places, seen, settings, cache)
        place = (self.places.max() + 1).expand(count)
        return _Read(cache=cache, real=real, place=place)

    def _read_question(
        self, read: _Read, question: Question, instructions: Sequence[str]
    ) -> Float[Tensor, "samples hidden"]:
        asked, real = self._asked(question, instructions)
        return self._read_on(read, self._embed(asked), real)

    def _read_on(
        self,
        read: _Read,
        words: Float[Tensor, "samples more hidden"],
        real: Bool[Tensor, "samples more"],
    ) -> Float[Tensor, "samples hidden"]:
        """Read more tokens and return what the next answer is read from."""
        places = (read.place[:, None] + _counted(real)).expand(len(self.places), -1, -1)
        read.real = torch.cat([read.real, real], dim=1)
        read.place = read.place + real.sum(dim=1)
        return self._run([words], read.real, places, None, {}, read.cache)[:, -1]

    def _sample(self, read: _Read, inputs: Inputs, randomness: Randomness) -> tuple[Tensor, Tensor]:
        hidden = self._read_question(read, "action", inputs.instructions)
        total = torch.zeros(len(inputs))
        drawn: list[Tensor] = []
        for axis in range(self.spaces.action):
            log_prob = self.action_head(hidden).log_softmax(dim=-1).cpu()
            token = draw_tokens(log_prob, randomness)
            total = total + log_prob.gather(1, token[:, None]).squeeze(1)
            drawn.append(token.to(self.device))
            if axis + 1 < self.spaces.action:
                words = self.action_tokens(drawn[-1][:, None])
                hidden = self._read_on(read, words, read.real.new_ones((len(inputs), 1)))
        return self.tokens.decode(torch.stack(drawn, dim=1)).cpu(), total

    def _run(
        self,
        words: Sequence[Tensor],
        real: Bool[Tensor, "samples read"],
        places: Int64[Tensor, "axes samples more"],
        seen: Any,
        settings: Mapping[str, Any],
        cache: DynamicCache | None,
    ) -> Float[Tensor, "samples more hidden"]:
        weight = self.network.get_input_embeddings().weight
        told = {name: value.to(self.device) for name, value in settings.items()}
        with self._arithmetic(weight.dtype):
            read = self.network(
                inputs_embeds=torch.cat([one.to(weight.dtype) for one in words], dim=1),
                attention_mask=real.long(),
                position_ids=places if len(places) > 1 else places[0],
                mm_encoder_outputs=None if seen is None else {"image": seen},
                cache=cache,
                use_cache=cache is not None,
                **told,
            )
        return read.last_hidden_state.float()

    def _embed_prefix(self, inputs: Inputs) -> tuple[Float[Tensor, "samples prefix hidden"], Any]:
        """Return the tokens that all questions share, and the pictures that go in between."""
        words = self._embed(self.prefix.expand(len(inputs), -1))
        count = inputs.state.shape[1]
        if count:
            levels = ((self._unit_state(inputs) + 1) / 2 * (_STATE_LEVELS - 1)).round().long()
            state = self.state_tokens(levels).to(words.dtype)
            words = torch.cat([words[:, :-count], state], dim=1)
        slots = [
            one.to(words.dtype).unbind(0) for one in self._slots(inputs.features.to(self.device))
        ]
        pictures = [one for row in zip(*slots, strict=True) for one in row]
        return words, self.family.seen(pictures)

    def _slots(self, features: Tensor) -> list[Float[Tensor, "samples _ numbers"]]:
        """Return the tokens of each picture of a question, a tensor a picture."""
        cameras, frames = self.spaces.cameras, self.settings.frames
        if not self.tower_learns:
            shapes = [(count, width // count) for count, width in self._tokens()] * frames
            return [one.unflatten(1, shape) for one, shape in _split(features, shapes)]
        sizes = [(one.height, one.width, 3) for one in cameras] * frames
        return [
            self.see(one.reshape(len(one), *size), index % len(cameras))
            for index, (one, size) in enumerate(_split(features, sizes))
        ]

    def _tokens(self) -> list[tuple[int, int]]:
        """Return tokens and numbers of each camera's picture."""
        return list(zip(self.counts, self.widths, strict=True))

    def _unit_state(self, inputs: Inputs) -> Float[Tensor, "samples state"]:
        state = inputs.state.to(self.device)
        unit = (state - self.state_low) / (self.state_high - self.state_low) * 2 - 1
        return unit.clamp(-1, 1)

    def _asked(
        self, question: Question, instructions: Sequence[str]
    ) -> tuple[Int64[Tensor, "samples asked"], Bool[Tensor, "samples asked"]]:
        asked, real = self.prompts.ask(question, instructions)
        return asked.to(self.device), real.to(self.device)

    def _embed(self, tokens: Int64[Tensor, "samples read"]) -> Float[Tensor, "samples read hidden"]:
        return self.network.get_input_embeddings()(tokens)

    def _all_places(
        self, after: Int64[Tensor, "samples more"]
    ) -> Int64[Tensor, "axes samples all"]:
        prefix = self.places[:, None].expand(-1, len(after), -1)
        return torch.cat([prefix, after.expand(len(prefix), -1, -1)], dim=2)

    def _arithmetic(self, kept: torch.dtype) -> AbstractContextManager[object]:
        """Compute in bfloat16, where that is wanted and the weights are kept in float32."""
        wanted = self.settings.precision == "bfloat16" and kept == torch.float32
        return torch.autocast(self.device.type, torch.bfloat16, enabled=wanted)


def _in_parts(part: Any, rows: int) -> Tensor:
    """Return the answers to all rows; not all at once where nothing is learned."""
    if torch.is_grad_enabled():
        return part(slice(0, rows))
    starts = range(0, rows, _ROWS_AT_ONCE)
    return torch.cat([part(slice(first, min(first + _ROWS_AT_ONCE, rows))) for first in starts])


def _split(
    features: Tensor, shapes: Sequence[tuple[int, ...]]
) -> list[tuple[Tensor, tuple[int, ...]]]:
    """Return the columns that each shape takes, with the shape."""
    widths = [math.prod(shape) for shape in shapes]
    parts = cast(Sequence[Tensor], features.split(widths, dim=1))
    return list(zip(parts, shapes, strict=True))


def _counted(real: Bool[Tensor, "samples more"]) -> Int64[Tensor, "samples more"]:
    """Return how many real tokens stand before each; padding counts from zero."""
    return (real.long().cumsum(dim=1) - 1).clamp(min=0)
