"""How a policy pushes the banana: where it touches it, and how far it turns it.

Episodes are simulated once more from their seeds and actions, with the simulator's ground truth.
The demonstrations hold no banana, so whatever a practised policy does more often than before was
found by practice.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from nearer.algorithm.model import ModelPolicy
from nearer.configs.eval import EvalConfig
from nearer.core.arrays import Array
from nearer.core.callbacks import ProgressCallback, ignore_progress
from nearer.core.episode import Ended, Episode
from nearer.core.errors import EnvError
from nearer.envs.tabletop.env import Tabletop
from nearer.envs.tabletop.layout import BANANA, BlockLayout
from nearer.envs.tabletop.meshes import banana_tips
from nearer.evaluation.success import evaluate
from nearer.fleets.encoded import encoded
from nearer.fleets.for_model import unencoded_fleet
from nearer.models.factory import build_model
from nearer.runs.checkpoint import load_model
from nearer.runs.json_files import read_documents, write_documents

MOVED_M = 0.0005
"""A banana that moves further in a control step is being pushed."""
PUSHES = "banana-pushes.jsonl"
"""Of a run or an adapted model: an episode a line."""
END = 2 / 3
"""A push further than this share of the half length from the middle is at an end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BananaEpisode:
    """What happened to the banana in one episode.

    Attributes:
        along: of each control step with contact, where the effector was along the banana: 0 at the
            middle, -1 at the stem, 1 at the other end.
        turned_rad: angle that the banana was turned by, in either direction, summed.
        success: by ground truth.
    """

    along: tuple[float, ...]
    turned_rad: float
    success: bool

    @property
    def share_at_ends(self) -> float | None:
        """Return the share of contact steps at either end; None without a contact."""
        return float(np.mean(np.abs(self.along) > END)) if self.along else None


def pushes_of(
    config: EvalConfig, on_progress: ProgressCallback = ignore_progress
) -> list[BananaEpisode]:
    """Return what happens to the banana on the starts of an evaluation, from disk or run now."""
    path = config.checkpoint / PUSHES
    if path.exists():
        return read_documents(BananaEpisode, path, "remove it, and it is written anew")
    episodes = _episodes(config, on_progress)
    env = Tabletop(families=("banana",), images=False)
    try:
        pushed = [pushes(env, episode) for episode in episodes]
    finally:
        env.close()
    write_documents(path, pushed)
    return pushed


def _episodes(config: EvalConfig, on_progress: ProgressCallback) -> Sequence[Episode]:
    policy = load_model(config.checkpoint, build_model, "policy")
    robots = unencoded_fleet(config.env, config.num_envs, policy, max_steps=config.max_steps)
    fleet = encoded(robots, policy.vision_encoder)
    try:
        _, episodes = evaluate(
            fleet,
            ModelPolicy(policy),
            episodes=config.episodes,
            max_steps=config.max_steps,
            seed=config.seed,
            on_progress=on_progress,
            stage="contacts",
        )
    finally:
        fleet.close()
    return episodes


def pushes(env: Tabletop, episode: Episode) -> BananaEpisode:
    """Simulate an episode once more, and return what happened to the banana.

    Args:
        env: with the banana.
        episode: recorded in such an env.

    Raises:
        EnvError: the env does not repeat the episode.
    """
    along: list[float] = []
    turned = 0.0
    layouts = _replayed(env, episode)
    before = next(layouts)
    for now in layouts:
        (x, y, yaw), (old_x, old_y, old_yaw) = now.poses[0], before.poses[0]
        turn = (yaw - old_yaw + np.pi) % (2 * np.pi) - np.pi
        turned += abs(turn)
        if np.hypot(x - old_x, y - old_y) > MOVED_M:
            along.append(along_banana(now))
        before = now
    return BananaEpisode(
        along=tuple(along),
        turned_rad=float(turned),
        success=episode.ended is Ended.SUCCESS_TRUE,
    )


def along_banana(layout: BlockLayout) -> float:
    """Return where the effector is along the banana: -1 at the stem, 1 at the other end."""
    x, y, yaw = layout.poses[layout.blocks.index(BANANA)]
    dx, dy = layout.effector - (x, y)
    in_banana = np.array(
        [np.cos(yaw) * dx + np.sin(yaw) * dy, -np.sin(yaw) * dx + np.cos(yaw) * dy]
    )
    stem, end = banana_tips()
    middle, half = (stem + end) / 2, (end - stem) / 2
    return float((in_banana - middle) @ half / (half @ half))


def _replayed(env: Tabletop, episode: Episode) -> Iterator[BlockLayout]:
    """Yield the layouts of an episode, from its first to its last observation."""
    robot = np.zeros(1, dtype=np.int64)
    observation, _ = env.reset(seed=episode.seed)
    yield env.layouts(robot)[0]
    for action in episode.actions:
        observation = env.step(np.asarray(action))[0]
        yield env.layouts(robot)[0]
    if not np.array_equal(observation["agent_pos"], episode.observations.agent_pos[-1]):
        raise EnvError(
            f"the tabletop must repeat an episode from its seed, got another end of {episode.seed};"
            " evaluate again with this version of nearer"
        )


def contacts_table(before: Sequence[BananaEpisode], after: Sequence[BananaEpisode]) -> str:
    """Return the figures of both policies as a Markdown table; 95 % intervals over episodes."""
    lines = ["| | before | after practice |", "|---|---|---|"]
    for name, values in (
        ("contact steps at an end of the banana, share", _shares_at_ends),
        ("rotation an episode, degrees", _rotations),
        ("contact steps an episode", _contact_steps),
    ):
        lines.append(f"| {name} | {_mean(values(before))} | {_mean(values(after))} |")
    return "\n".join(lines) + "\n"


def _shares_at_ends(episodes: Sequence[BananaEpisode]) -> list[float]:
    return [one.share_at_ends for one in episodes if one.share_at_ends is not None]


def _rotations(episodes: Sequence[BananaEpisode]) -> list[float]:
    return [float(np.rad2deg(episode.turned_rad)) for episode in episodes]


def _contact_steps(episodes: Sequence[BananaEpisode]) -> list[float]:
    return [float(len(episode.along)) for episode in episodes]


def _mean(values: Sequence[float]) -> str:
    numbers = np.asarray(values)
    margin = 1.96 * numbers.std(ddof=1) / np.sqrt(len(numbers))
    return f"{numbers.mean():.2f} +- {margin:.2f} (n = {len(numbers)})"


def all_along(episodes: Sequence[BananaEpisode]) -> Float64[Array, "contacts"]:
    """Return where the effector was, of all contact steps of all episodes."""
    return np.array([place for episode in episodes for place in episode.along])
