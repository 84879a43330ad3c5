"""How often a policy succeeds, by the simulator's ground truth, with n, interval and seeds.

With audit.py this is the only reader of ground truth.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from time import perf_counter

import numpy as np
from jaxtyping import Bool, Float32

from nearer.algorithm.model import FoundationModel, reward_inputs_of
from nearer.algorithm.rollout import actions_outside, rollout
from nearer.algorithm.score import steps_to_go_probabilities
from nearer.algorithm.steps_to_go import expected_steps
from nearer.core.arrays import Array
from nearer.core.callbacks import Progress, ProgressCallback, ignore_progress
from nearer.core.episode import Ended, Episode
from nearer.core.errors import ConfigError, EnvError
from nearer.core.interfaces import Fleet, Policy
from nearer.core.intervals import Rate, sign_test
from nearer.core.seeds import Purpose, episode_seeds
from nearer.evaluation.ground_truth import (
    GroundTruthRecorder,
    GroundTruthTermination,
    NoTermination,
)
from nearer.evaluation.threshold import LabelledEpisode


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeResult:
    """How one evaluation episode went.

    Attributes:
        num_steps: control steps; a failure counts the time limit.
        actions_outside: actions beyond the env's limits.
    """

    seed: int
    instruction: str
    success: bool
    num_steps: int
    actions_outside: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """A policy's episodes, in the order of their seeds.

    Attributes:
        seed: the evaluation's; the same seed gives every policy the same starts.
        seconds: wall-clock time it took.
    """

    results: tuple[EpisodeResult, ...]
    seed: int
    max_steps: int
    seconds: float

    @property
    def success(self) -> Rate:
        """Return the success rate."""
        return self.success_within(self.max_steps)

    def success_within(self, steps: int) -> Rate:
        """Return the rate of episodes that succeed in so many control steps."""
        wins = sum(result.success and result.num_steps <= steps for result in self.results)
        return Rate(successes=wins, total=len(self.results))

    @property
    def mean_length(self) -> float:
        """Return the mean number of control steps; a failure counts the time limit."""
        return float(np.mean([result.num_steps for result in self.results]))

    @property
    def actions_outside(self) -> int:
        """Return how many actions were beyond the env's limits, which clips or refuses them."""
        return sum(result.actions_outside for result in self.results)


def evaluate(
    fleet: Fleet,
    policy: Policy,
    *,
    episodes: int,
    max_steps: int,
    seed: int,
    on_progress: ProgressCallback = ignore_progress,
    stage: str = "evaluation",
) -> tuple[Evaluation, list[Episode]]:
    """Run a policy, sampling its actions, on `episodes` seeded starts.

    Where it acts in chunks, its steps are counted in whole ones.

    Returns:
        The evaluation, and its episodes in the order of their seeds.
    """
    seeds = list(islice(episode_seeds(Purpose.EVALUATION, seed), episodes))
    started = perf_counter()
    ran: dict[int, Episode] = {}
    termination = GroundTruthTermination(fleet)
    starts = iter(seeds)
    for episode in rollout(
        fleet, policy, termination, seeds=starts, max_steps=max_steps, keep_features=False
    ):
        ran[episode.seed] = episode
        if len(ran) % 20 == 0 or len(ran) == episodes:
            on_progress(Progress(stage=stage, done=len(ran), total=episodes))
    ordered = [ran[start] for start in seeds]
    results = tuple(_result(fleet, episode, max_steps) for episode in ordered)
    seconds = perf_counter() - started
    return Evaluation(results=results, seed=seed, max_steps=max_steps, seconds=seconds), ordered


def _result(fleet: Fleet, episode: Episode, max_steps: int) -> EpisodeResult:
    success = episode.ended is Ended.SUCCESS_TRUE
    steps = fleet.spaces.chunking.chunk * episode.num_steps
    return EpisodeResult(
        seed=episode.seed,
        instruction=episode.instruction,
        success=success,
        num_steps=steps if success else max_steps,
        actions_outside=actions_outside(fleet.spaces, [episode]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two policies on the same starts.

    Attributes:
        wins: starts on which only the second succeeded.
        losses: starts on which only the first did.
        p_value: two-sided, exact sign test on these starts; "neither is better" is the null.
        steps_saved: mean over starts of first's steps minus second's.
        steps_saved_ci95: its 95 % interval (normal approximation).
    """

    wins: int
    losses: int
    p_value: float
    steps_saved: float
    steps_saved_ci95: tuple[float, float]


def compare(first: Evaluation, second: Evaluation) -> Comparison:
    """Compare two policies start by start.

    Raises:
        ConfigError: they were not evaluated on the same starts.
    """
    check_paired(first, second.seed, len(second.results), second.max_steps)
    pairs = list(zip(first.results, second.results, strict=True))
    wins = sum(b.success and not a.success for a, b in pairs)
    losses = sum(a.success and not b.success for a, b in pairs)
    saved = np.array([a.num_steps - b.num_steps for a, b in pairs], dtype=np.float64)
    half = 1.96 * float(saved.std(ddof=1)) / len(saved) ** 0.5 if len(saved) > 1 else np.inf
    mean = float(saved.mean())
    return Comparison(
        wins=wins,
        losses=losses,
        p_value=sign_test(wins, losses),
        steps_saved=mean,
        steps_saved_ci95=(mean - half, mean + half),
    )


def check_paired(first: Evaluation, seed: int, episodes: int, max_steps: int) -> None:
    """Raise ConfigError unless an evaluation with these settings can be compared with `first`."""
    settings = (first.seed, len(first.results), first.max_steps)
    if settings != (seed, episodes, max_steps):
        raise ConfigError(
            "paired evaluations must have the same seed, number of episodes and time limit, got "
            "{}, {} and {} steps, and {}, {} and {} steps; evaluate both with the same --seed, "
            "--episodes and --max-steps".format(*settings, seed, episodes, max_steps)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledRollout:
    """What a frozen model predicts along an episode, and its ground truth.

    Attributes:
        probabilities: p(k | o_t, g) over the model's bins.
        label: d, and success.
    """

    probabilities: Float32[Array, "obs bins"]
    label: LabelledEpisode


def labelled_rollouts(
    fleet: Fleet,
    policy: Policy,
    reward: FoundationModel,
    *,
    episodes: int,
    max_steps: int,
    seed: int,
) -> list[LabelledRollout]:
    """Run a policy to the time limit and label every observation with d and its ground truth."""
    labelled: list[LabelledRollout] = []
    rollouts = rollouts_with_ground_truth(
        fleet, policy, episodes=episodes, max_steps=max_steps, seed=seed
    )
    for episode, success in rollouts:
        inputs = reward_inputs_of(
            episode.observations, [episode.instruction] * (episode.num_steps + 1)
        )
        probabilities = steps_to_go_probabilities(reward, inputs)
        d = expected_steps(probabilities, reward.bins).numpy()
        label = LabelledEpisode(steps_to_go=d, success=success)
        labelled.append(LabelledRollout(probabilities=probabilities.numpy(), label=label))
    return labelled


def rollouts_with_ground_truth(
    fleet: Fleet, policy: Policy, *, episodes: int, max_steps: int, seed: int
) -> Iterator[tuple[Episode, Bool[Array, "obs"]]]:
    """Run a policy to the time limit; yield each episode as it ends, with its success."""
    recorder = GroundTruthRecorder(fleet)
    seeds: Iterator[int] = islice(episode_seeds(Purpose.CALIBRATION, seed), episodes)
    for episode in rollout(recorder, policy, NoTermination(), seeds=seeds, max_steps=max_steps):
        yield episode, recorder.success(episode)


def replayed_ground_truth(fleet: Fleet, episodes: Sequence[Episode]) -> list[Bool[Array, "obs"]]:
    """Return success along recorded episodes, by the same seeds and actions once more.

    Args:
        fleet: simulators that are a function of seed and actions; images need not be encoded.
        episodes: as recorded.

    Raises:
        EnvError: a simulator does not repeat the recorded path bit for bit.
    """
    successes: list[list[bool]] = [[] for _ in episodes]
    for first in range(0, len(episodes), fleet.num_robots):
        part = episodes[first : first + fleet.num_robots]
        robots = list(range(len(part)))
        rows = np.array(robots, dtype=np.int64)
        observed = fleet.reset(rows, [episode.seed for episode in part]).observation
        for step in range(max(episode.num_steps for episode in part) + 1):
            now = fleet.ground_truth(rows)
            for row, robot in enumerate(robots):
                _check_repeats(observed.state[row], part[robot], step)
                successes[first + robot].append(bool(now[row]))
            robots = [robot for robot, episode in enumerate(part) if episode.num_steps > step]
            rows = np.array(robots, dtype=np.int64)
            if robots:
                actions = np.stack([part[robot].actions[step] for robot in robots])
                observed = fleet.step(rows, actions).observation
    return [np.array(success, dtype=bool) for success in successes]


def _check_repeats(state: Float32[Array, "state"], recorded: Episode, step: int) -> None:
    if not np.array_equal(state, recorded.observations.state[step]):
        raise EnvError(
            f"a replay must repeat the recorded episode bit for bit, got another state at step "
            f"{step} of seed {recorded.seed}; practise and replay in the same env, whose "
            "randomness comes from the seed of its reset, or leave out --env"
        )
