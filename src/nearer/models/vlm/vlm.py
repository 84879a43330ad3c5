"""A vision-language model as policy and detector: answers are added tokens.

    [pictures, proprioception] "What robot action to ...?" -> one token an action axis
    [pictures, proprioception] "How many steps to ...?"    -> one token, a bin of steps-to-go

The answers' tokens are added beside the vocabulary, each with a row of input and output numbers
that starts as the mean of the words that say it ("+3", "42"). A softmax over these rows alone is
the distribution: an answer that is no action cannot be sampled, and log-probabilities are exact.

What stands in brackets comes first and is the same for both questions: `answers` reads it once,
with both questions after it, neither of which sees the other.
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
from nearer.models.vlm.attention_masks import Asked, Read, counted, in_parts, who_sees_whom
from nearer.models.vlm.families import Family, Network
from nearer.models.vlm.image_preprocessing import Preparing
from nearer.models.vlm.prompts import Prompts, Question
from nearer.models.vlm.tower_model import Towered

_STATE_LEVELS = 256  # of a number of proprioception, as in the paper (Aloha)


class VLM(Towered):
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
        super().__init__(settings, spaces, network, preparing, learns=learns)
        self.family, self.prompts = family, prompts
        hidden = family.config.get_text_config().hidden_size
        self.action_tokens = nn.Embedding(self.tokens.count, hidden)
        self.action_head = nn.Linear(hidden, self.tokens.count, bias=False)
        self.steps_head = nn.Linear(hidden, settings.num_bins, bias=False)
        self.state_tokens = nn.Embedding(_STATE_LEVELS, hidden)
        self.counts = [family.tokens(one.height, one.width) for one in self.preparing]
        self.widths = [count * family.streams * hidden for count in self.counts]
        self._lay_out(self.state_low.numel())
        self._choose_what_learns()

    @property
    def tower(self) -> list[nn.Module]:
        """Return the modules that turn pixels into tokens."""
        return self.family.tower(self.network)

    @property
    def sharded_blocks(self) -> Sequence[nn.Module]:
        """Return the layers of the language model, and of a tower that trains."""
        return self.family.layers(self.network, with_tower=self.tower_learns)

    def train(self, mode: bool = True) -> "VLM":
        """Set the mode of what trains; a frozen tower always stays as it serves."""
        super().train(mode)
        if not self.tower_learns:
            for part in self.tower:
                part.eval()
        return self

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

    def see(self, pictures: Tensor, camera: int) -> Float[Tensor, "frames tokens numbers"]:
        """Return the tokens that the tower makes of a camera's pictures, bytes or 0..255."""
        pixels = self.preparing[camera](pictures.to(self.device))
        weight = next(self.tower[0].parameters())
        with self._arithmetic(weight.dtype):
            return self.family.see(self.network, pixels.to(weight.dtype))

    def sample(
        self, inputs: Inputs, rngs: Rngs
    ) -> tuple[Float[Tensor, "samples action"], Float[Tensor, "samples"]]:
        """Draw an action a row, axis by axis, with its exact log-probability."""
        actions, log_prob, _ = self._act(inputs, rngs, ("action",))
        return actions, log_prob

    def answers(
        self, inputs: Inputs, rngs: Rngs
    ) -> tuple[
        Float[Tensor, "samples action"], Float[Tensor, "samples"], Float[Tensor, "samples bins"]
    ]:
        """Return what `sample` and `steps_to_go_logits` say; both questions are read at once."""
        actions, log_prob, last = self._act(inputs, rngs, ("action", "steps"))
        return actions, log_prob, self.steps_head(last).cpu()

    def log_prob(
        self, inputs: Inputs, actions: Float[Tensor, "samples action"]
    ) -> Float[Tensor, "samples"]:
        """Return the log-probability of the tokens that the actions round to."""
        tokens = self.tokens.encode(actions.to(self.device))

        def part(rows: slice) -> Tensor:
            hidden = self._hidden(inputs.rows(rows), "action", tokens[rows, :-1])
            log_prob = self.action_head(hidden).log_softmax(dim=-1)
            return log_prob.gather(2, tokens[rows, :, None]).sum(dim=(1, 2)).cpu()

        return in_parts(part, len(inputs))

    def steps_to_go_logits(self, inputs: Inputs) -> Float[Tensor, "samples bins"]:
        """Return unnormalised log-probabilities of the steps-to-go bins."""

        def part(rows: slice) -> Tensor:
            none = torch.zeros((len(inputs.state[rows]), 0), dtype=torch.int64)
            hidden = self._hidden(inputs.rows(rows), "steps", none.to(self.device))
            return self.steps_head(hidden[:, 0]).cpu()

        return in_parts(part, len(inputs))

    def normalised_inputs(self, inputs: Inputs) -> Float[Tensor, "samples facts"]:
        """Return the mean token of every picture and the state, each of about unit size."""
        pictures = [one.mean(dim=1) for one in self.pictures_of(inputs)]
        seen = [torch.nn.functional.layer_norm(one, one.shape[1:]) for one in pictures]
        return torch.cat([*seen, self.unit_state(inputs)], dim=1).float().cpu()

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
        if not self.state_low.numel():  # several processes want every weight that learns to be used
            self.state_tokens.requires_grad_(False)
        if self.settings.checkpointing:
            self.network.activation_checkpointing_enable({"use_reentrant": False})

    def _hidden(
        self, inputs: Inputs, question: Question, answered: Int64[Tensor, "samples known"]
    ) -> Float[Tensor, "samples known+1 hidden"]:
        """Return what each answer is read from, all in one pass: the way to learn."""
        asked = self._asked(question, inputs.instructions)
        known = torch.ones_like(answered, dtype=torch.bool)
        words = torch.cat([asked.words, self.action_tokens(answered).to(asked.words.dtype)], dim=1)
        asked = Asked(words, torch.cat([asked.real, known], dim=1))
        return self._read(inputs, [asked], None)[:, -answered.shape[1] - 1 :]

    def _act(
        self, inputs: Inputs, rngs: Rngs, questions: Sequence[Question]
    ) -> tuple[Tensor, Tensor, Float[Tensor, "samples hidden"]]:
        """Draw actions, asked first; return what the last question is answered from, too."""
        asked = [self._asked(question, inputs.instructions) for question in questions]
        cache = DynamicCache(config=self.family.config.get_text_config())
        hidden = self._read(inputs, asked, cache)
        first, *others = (one.real for one in asked)
        shared = first.new_ones((len(first), len(self.prefix)))
        visible = torch.cat([shared, first, *map(torch.zeros_like, others)], dim=1)
        read = Read(cache, visible, self.places.max() + 1 + first.sum(dim=1))
        start = hidden[:, shared.shape[1] + first.shape[1] - 1]
        actions, log_prob = self._draw_axes(read, start, rngs)
        return actions, log_prob, hidden[:, -1]

    def _draw_axes(
        self, read: Read, hidden: Float[Tensor, "samples hidden"], rngs: Rngs
    ) -> tuple[Tensor, Tensor]:
        total = torch.zeros(len(hidden))
        drawn: list[Tensor] = []
        for axis in range(self.spaces.action):
            log_prob = self.action_head(hidden).log_softmax(dim=-1).cpu()
            token = draw_tokens(log_prob, rngs)
            total = total + log_prob.gather(1, token[:, None]).squeeze(1)
            drawn.append(token.to(self.device))
            if axis + 1 < self.spaces.action:
                hidden = self._read_on(read, self.action_tokens(drawn[-1][:, None]))
        return self.tokens.decode(torch.stack(drawn, dim=1)).cpu(), total

    def _read(
        self, inputs: Inputs, asked: Sequence[Asked], cache: DynamicCache | None
    ) -> Float[Tensor, "samples read hidden"]:
        """Read what all questions share, and each question as if it were alone."""
        shared, seen = self._embed_prefix(inputs)
        after = [self.places.max() + 1 + counted(one.real) for one in asked]
        places = torch.cat(
            [self.places[:, None].expand(-1, len(shared), -1)]
            + [one.expand(len(self.places), -1, -1) for one in after],
            dim=2,
        )
        allowed = who_sees_whom(
            len(self.prefix), [one.real for one in asked], self.family.both_ways
        )
        words = torch.cat([shared, *(one.words for one in asked)], dim=1)
        return self._run(words, allowed, places, seen, cache)

    def _read_on(
        self, read: Read, words: Float[Tensor, "samples 1 hidden"]
    ) -> Float[Tensor, "samples hidden"]:
        """Read one more token and return what the next answer is read from."""
        places = read.place[:, None].expand(len(self.places), -1, -1)
        read.visible = torch.nn.functional.pad(read.visible, (0, 1), value=True)
        read.place = read.place + 1
        return self._run(words, read.visible[:, None], places, None, read.cache)[:, -1]

    def _run(
        self,
        words: Float[Tensor, "samples more hidden"],
        allowed: Bool[Tensor, "samples more read"],
        places: Int64[Tensor, "axes samples more"],
        seen: Any,
        cache: DynamicCache | None,
    ) -> Float[Tensor, "samples more hidden"]:
        kept: torch.dtype = self.network.get_input_embeddings().weight.dtype
        barred = torch.zeros_like(allowed, dtype=kept).masked_fill(~allowed, torch.finfo(kept).min)
        self._recompute(cache is None and torch.is_grad_enabled())
        with self._arithmetic(kept):
            read = self.network(
                inputs_embeds=words.to(kept),
                attention_mask=barred[:, None],
                position_ids=places if len(places) > 1 else places[0],
                mm_encoder_outputs=None if seen is None else {"image": seen},
                cache=cache,
                use_cache=cache is not None,
            )
        return read.last_hidden_state.float()

    def _embed_prefix(self, inputs: Inputs) -> tuple[Float[Tensor, "samples prefix hidden"], Any]:
        """Return the tokens that all questions share, and the pictures that go in between."""
        words = self._embed(self.prefix.expand(len(inputs), -1))
        count = inputs.state.shape[1]
        if count:
            levels = ((self.unit_state(inputs) + 1) / 2 * (_STATE_LEVELS - 1)).round().long()
            state = self.state_tokens(levels).to(words.dtype)
            words = torch.cat([words[:, :-count], state], dim=1)
        slots = [one.to(words.dtype).unbind(0) for one in self.pictures_of(inputs)]
        pictures = [one for row in zip(*slots, strict=True) for one in row]
        return words, self.family.seen(pictures)

    def _asked(self, question: Question, instructions: Sequence[str]) -> Asked:
        tokens, real = self.prompts.ask(question, instructions)
        return Asked(self._embed(tokens.to(self.device)), real.to(self.device))

    def _embed(self, tokens: Int64[Tensor, "samples read"]) -> Float[Tensor, "samples read hidden"]:
        return self.network.get_input_embeddings()(tokens)

    def _recompute(self, learning: bool) -> None:
        """With checkpointing, let layers be computed twice while something is learned.

        transformers asks whether a layer is in training, and in Stage 2 none is.
        """
        if self.settings.checkpointing:
            for layer in self.family.layers(self.network, with_tower=self.tower_learns):
                layer.training = learning

    def _arithmetic(self, kept: torch.dtype) -> AbstractContextManager[object]:
        """Compute in bfloat16, where that is wanted and the weights are kept in float32."""
        wanted = self.settings.precision == "bfloat16" and kept == torch.float32
        return torch.autocast(self.device.type, torch.bfloat16, enabled=wanted)
