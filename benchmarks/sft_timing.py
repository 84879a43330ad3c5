"""Stage 1 on random demonstrations, timed: the loop of `nearer sft`, without files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
import torch

from nearer.algorithm.demonstrations import Demonstrations
from nearer.algorithm.distributed import ONE, Processes
from nearer.algorithm.model import FoundationModel
from nearer.algorithm.run_writer import Counters, TrainingState
from nearer.algorithm.sft import sft
from nearer.algorithm.sft_settings import SFTTraining
from nearer.core.metrics import Record
from nearer.core.spaces import Camera, Spaces
from nearer.core.vision import StackingVisionEncoder
from vlm import instructions

SPACES = Spaces(agent_pos=0, environment_state=0, action=2, cameras=(Camera("top", 96, 128),))
"""Of a robot with the tabletop's camera, whose images are all that a prompt shows."""


@dataclass
class MemoryRun:
    """A run that keeps records and the times at which they came, and writes nothing."""

    name: str = "a benchmark"
    how_to_resume: str = "start the benchmark again"
    kept: list[Record] = field(default_factory=list[Record])
    times_s: list[float] = field(default_factory=list[float])

    def records(self) -> list[Record]:
        """Return nothing: every run is a new one."""
        return []

    def log(self, record: Record) -> None:
        """Keep a record."""
        self.kept.append(record)
        self.times_s.append(perf_counter())

    def save(
        self,
        step: int,
        model: FoundationModel,
        training: TrainingState,
        links: Mapping[str, int],
        keep: Sequence[int] = (),
    ) -> None:
        """Do nothing."""

    def link(self, last: int, links: Mapping[str, int], keep: Sequence[int] = ()) -> None:
        """Do nothing."""

    def restore(self, model: FoundationModel, optimizer: torch.optim.Optimizer) -> Counters | None:
        """Return that there is no checkpoint."""
        return None

    def losses(self) -> list[float]:
        """Return the sum of both training losses at every record."""
        names = ("sft/loss_bc", "sft/loss_steps_to_go")
        return [sum(float(record[name] or 0) for name in names) for record in self.kept]


def random_demonstrations(model: FoundationModel, episodes: int, frames: int) -> Demonstrations:
    """Return episodes of random images, encoded by the model, and normalise the model by them.

    Args:
        model: with a vision encoder that stacks frames.
        episodes: how many.
        frames: of each.
    """
    rng = np.random.default_rng(0)
    encoder, camera = model.vision_encoder, SPACES.cameras[0]
    assert isinstance(encoder, StackingVisionEncoder), "a vision-language model stacks frames"
    lengths, texts = np.full(episodes, frames), instructions(episodes)
    shape = (episodes * frames, camera.height, camera.width, 3)
    images = {camera.name: rng.integers(0, 256, shape, dtype=np.uint8)}
    encodings = encoder.encode(images, np.repeat(np.array(texts), frames).tolist())
    data = Demonstrations(
        state=torch.zeros(len(encodings), 0),
        features=torch.from_numpy(encodings),
        stacked_rows=_stacked_rows(episodes, frames, encoder.num_stacked_frames),
        actions=torch.from_numpy(rng.normal(0, 0.02, (len(encodings), 2)).astype(np.float32)),
        steps_to_go=torch.arange(frames).flip(0).repeat(episodes),
        episode_lengths=lengths,
        instructions=tuple(texts),
        spaces=SPACES,
    )
    model.normalise_by(data.statistics(), data.actions[data.acted_frames()])
    return data


def _stacked_rows(episodes: int, frames: int, stacked: int) -> torch.Tensor:
    """Return the rows that are stacked as a frame's features, as `nearer.datasets` does.

    Written anew, since that package needs those that read Parquet and videos.
    """
    own = torch.arange(episodes * frames)
    first = own - own % frames
    return torch.stack([(own - back).maximum(first) for back in range(stacked)][::-1], dim=1)


def timed_sft(
    model: FoundationModel,
    data: Demonstrations,
    batch_size: int,
    updates: int,
    processes: Processes = ONE,
) -> tuple[float, MemoryRun]:
    """Fine-tune; return samples a second of the second half of the updates, and the run.

    A sample is a frame with one prompt; an update has `batch_size` of each of the two prompts. The
    validation at the end, on one episode, is counted in.

    Args:
        model: is trained in place.
        data: the last episode is held out.
        batch_size: frames an objective and update.
        updates: in all, an even number.
        processes: that train it together.
    """
    rows = np.arange(len(data.instructions))
    run, half = MemoryRun(), updates // 2
    training = SFTTraining(
        updates=updates,
        validate_every=half,
        batch_size=batch_size,
        learning_rate=1e-4,
        warmup_updates=1,
        processes=processes.kind,
    )
    sft(
        training,
        data.episodes(rows[:-1]),
        data.episodes(rows[-1:]),
        model,
        run,
        processes=processes,
    )
    seconds = run.times_s[-1] - run.times_s[-2]
    return 2 * batch_size * half / seconds, run
