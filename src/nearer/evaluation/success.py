"""What a policy can really do: success by the simulator's truth, with n, interval and seeds.

With audit.py this is the only reader of ground truth.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from time import perf_counter
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32

from nearer.algorithm.model import FoundationModel, reward_inputs_of
from nearer.algorithm.rollout import actions_outside, collect
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
        actions_outside: actions beyond the env's limits; None: an older nearer did not count.
    """

    seed: int
    instruction: str
    success: bool
    num_steps: int
    actions_outside: int | None = None


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
        wins = sum(result.success for result in self.results)
        return Rate(successes=wins, total=len(self.results))

    @property
    def mean_length(self) -> float:
        """Return the mean number of control steps; a failure counts the time limit."""
        return float(np.mean([result.num_steps for result in self.results]))

    @property
    def actions_outside(self) -> int | None:
        """Return how many actions were beyond the env's limits, which clips or refuses them."""
        return _total_outside(self.results)


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
    for episode in collect(
        fleet, policy, termination, seeds=starts, max_steps=max_steps, keep_features=False
    ):
        ran[episode.seed] = episode
        if len(ran) % 20 == 0 or len(ran) == episodes:
            on_progress(Progress(stage=stage, done=len(ran), total=episodes))
    ordered = [ran[one] for one in seeds]
    results = tuple(_result(fleet, one, max_steps) for one in ordered)
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


def eval_info(evaluation: Evaluation) -> dict[str, Any]:
    """Return an evaluation in the form of lerobot's eval_info.json, intervals and seeds added."""
    tasks = sorted({result.instruction for result in evaluation.results})
    return {
        "per_task": {
            task: _summary([r for r in evaluation.results if r.instruction == task])
            for task in tasks
        },
        "overall": {
            **_summary(evaluation.results),
            "eval_s": evaluation.seconds,
            "eval_ep_s": evaluation.seconds / len(evaluation.results),
        },
        "seed": evaluation.seed,
        "max_steps": evaluation.max_steps,
        "episodes": [asdict(result) for result in evaluation.results],
    }


def evaluation_of(document: dict[str, Any]) -> Evaluation:
    """Return the evaluation that an eval_info.json describes.

    Raises:
        ConfigError: nearer eval did not write it.
    """
    try:
        return Evaluation(
            results=tuple(EpisodeResult(**result) for result in document["episodes"]),
            seed=document["seed"],
            max_steps=document["max_steps"],
            seconds=document["overall"]["eval_s"],
        )
    except (KeyError, TypeError) as error:
        raise ConfigError(
            f"an eval_info.json must be one that nearer eval wrote, got none of its form: {error}; "
            "make it with nearer eval --checkpoint RUN --env ID"
        ) from error


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
    """What a frozen model says along an episode, and what was true.

    Attributes:
        probabilities: p(k | o_t, g) over the model's bins.
        label: d and the truth.
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
    """Run a policy to the time limit and label every observation with d and the truth."""
    found: list[LabelledRollout] = []
    rollouts = witnessed_rollouts(fleet, policy, episodes=episodes, max_steps=max_steps, seed=seed)
    for episode, fulfilled in rollouts:
        asked = reward_inputs_of(
            episode.observations, [episode.instruction] * (episode.num_steps + 1)
        )
        probabilities = steps_to_go_probabilities(reward, asked)
        d = expected_steps(probabilities, reward.bins).numpy()
        label = LabelledEpisode(steps_to_go=d, fulfilled=fulfilled)
        found.append(LabelledRollout(probabilities=probabilities.numpy(), label=label))
    return found


def witnessed_rollouts(
    fleet: Fleet, policy: Policy, *, episodes: int, max_steps: int, seed: int
) -> Iterator[tuple[Episode, Bool[Array, "obs"]]]:
    """Run a policy to the time limit; give each episode as it ends, and what was true along it."""
    recorder = GroundTruthRecorder(fleet)
    seeds: Iterator[int] = islice(episode_seeds(Purpose.CALIBRATION, seed), episodes)
    for episode in collect(recorder, policy, NoTermination(), seeds=seeds, max_steps=max_steps):
        yield episode, recorder.fulfilled(episode)


def replayed_truth(fleet: Fleet, episodes: Sequence[Episode]) -> list[Bool[Array, "obs"]]:
    """Return what was true along recorded episodes: the same seeds and actions once more.

    Args:
        fleet: simulators that are a function of seed and actions; nobody need look at pictures.
        episodes: as recorded.

    Raises:
        EnvError: a simulator does not repeat the recorded path bit for bit.
    """
    truths: list[list[bool]] = [[] for _ in episodes]
    for first in range(0, len(episodes), fleet.num_robots):
        part = episodes[first : first + fleet.num_robots]
        robots = list(range(len(part)))
        rows = np.array(robots, dtype=np.int64)
        seen = fleet.reset(rows, [one.seed for one in part]).observation
        for step in range(max(one.num_steps for one in part) + 1):
            truth = fleet.ground_truth(rows)
            for row, robot in enumerate(robots):
                _check_repeats(seen.state[row], part[robot], step)
                truths[first + robot].append(bool(truth[row]))
            robots = [robot for robot, one in enumerate(part) if one.num_steps > step]
            rows = np.array(robots, dtype=np.int64)
            if robots:
                actions = np.stack([part[robot].actions[step] for robot in robots])
                seen = fleet.step(rows, actions).observation
    return [np.array(one, dtype=bool) for one in truths]


def _check_repeats(seen: Float32[Array, "state"], recorded: Episode, step: int) -> None:
    if not np.array_equal(seen, recorded.observations.state[step]):
        raise EnvError(
            f"a replay must repeat the recorded episode bit for bit, got another state at step "
            f"{step} of seed {recorded.seed}; practise and replay in the same env, whose "
            "randomness comes from the seed of its reset, or leave out --env"
        )


def _summary(results: Sequence[EpisodeResult]) -> dict[str, Any]:
    rate = Rate(successes=sum(r.success for r in results), total=len(results))
    low, high = rate.interval
    return {
        "pc_success": 100 * rate.value,
        "pc_success_ci95": [100 * low, 100 * high],
        "n_success": rate.successes,
        "n_episodes": rate.total,
        "mean_length": float(np.mean([r.num_steps for r in results])),
        "n_actions_outside": _total_outside(results),
    }


def _total_outside(results: Sequence[EpisodeResult]) -> int | None:
    counts = [one.actions_outside for one in results]
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None
