"""eval_info.json: an evaluation in the form of lerobot's, with intervals and seeds added.

lerobot names per_task, overall, pc_success, eval_s and eval_ep_s; the other keys are ours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nearer.core.errors import ConfigError
from nearer.core.intervals import Rate
from nearer.evaluation.success import EpisodeResult, Evaluation
from nearer.runs.json_files import read_document, write_document

_ADVICE = "evaluate again with nearer eval --checkpoint RUN --env ID"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalSummary:
    """Some episodes of an evaluation in short.

    Attributes:
        pc_success: success rate, in percent.
        pc_success_ci95: its 95 % Wilson interval, in percent.
        mean_length: control steps; a failure counts the time limit.
        n_actions_outside: actions beyond the env's limits.
    """

    pc_success: float
    pc_success_ci95: tuple[float, float]
    n_success: int
    n_episodes: int
    mean_length: float
    n_actions_outside: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OverallSummary(EvalSummary):
    """All episodes of an evaluation in short.

    Attributes:
        eval_s: wall-clock time, in seconds.
        eval_ep_s: the same an episode.
    """

    eval_s: float
    eval_ep_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalInfo:
    """eval_info.json: an evaluation, of which policy, and in which env.

    Attributes:
        env_kwargs: settings of the env.
        checkpoint: as the command was given it.
        policy_sha256: hash of the policy's model.safetensors.
        per_task: instruction -> its episodes in short.
        seed: of the evaluation.
        max_steps: control steps an episode may take.
        episodes: in the order of their seeds.
    """

    env: str
    checkpoint: str
    policy_sha256: str
    per_task: Mapping[str, EvalSummary]
    overall: OverallSummary
    seed: int
    max_steps: int
    episodes: tuple[EpisodeResult, ...]
    env_kwargs: Mapping[str, object] = field(default_factory=dict[str, object])

    @property
    def evaluation(self) -> Evaluation:
        """Return the evaluation itself."""
        return Evaluation(
            results=self.episodes,
            seed=self.seed,
            max_steps=self.max_steps,
            seconds=self.overall.eval_s,
        )


def eval_info(
    evaluation: Evaluation,
    *,
    env: str,
    checkpoint: str,
    policy_sha256: str,
    env_kwargs: Mapping[str, object] | None = None,
) -> EvalInfo:
    """Return an evaluation as eval_info.json tells it."""
    results = evaluation.results
    tasks = sorted({result.instruction for result in results})
    overall = _summary(results)
    return EvalInfo(
        env=env,
        checkpoint=checkpoint,
        policy_sha256=policy_sha256,
        per_task={
            task: _summary([result for result in results if result.instruction == task])
            for task in tasks
        },
        overall=OverallSummary(
            pc_success=overall.pc_success,
            pc_success_ci95=overall.pc_success_ci95,
            n_success=overall.n_success,
            n_episodes=overall.n_episodes,
            mean_length=overall.mean_length,
            n_actions_outside=overall.n_actions_outside,
            eval_s=evaluation.seconds,
            eval_ep_s=evaluation.seconds / len(results),
        ),
        seed=evaluation.seed,
        max_steps=evaluation.max_steps,
        episodes=results,
        env_kwargs=env_kwargs or {},
    )


def read_eval_info(path: Path, advice: str = _ADVICE) -> EvalInfo:
    """Return an eval_info.json.

    Args:
        path: the file.
        advice: what to do if it cannot be read; ends the sentence.

    Raises:
        ConfigError: it is not as nearer eval writes it.
    """
    info = read_document(EvalInfo, path, advice)
    if not info.episodes:
        raise ConfigError(f"{path} must hold one episode or more, got none; {advice}")
    return info


def write_eval_info(path: Path, info: EvalInfo) -> None:
    """Write an eval_info.json."""
    write_document(path, info)


def _summary(results: Sequence[EpisodeResult]) -> EvalSummary:
    rate = Rate(successes=sum(result.success for result in results), total=len(results))
    low, high = rate.interval
    return EvalSummary(
        pc_success=100 * rate.value,
        pc_success_ci95=(100 * low, 100 * high),
        n_success=rate.successes,
        n_episodes=rate.total,
        mean_length=float(np.mean([result.num_steps for result in results])),
        n_actions_outside=sum(result.actions_outside for result in results),
    )
