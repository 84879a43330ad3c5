"""Policy and reward model served to all actors, in batches (paper, section 3.4, version 1).

    actor   images                -->  features                                      server
            encoded observation   -->  done, prediction of steps-to-go, next action

Robots then need no accelerator and no copy of the models. The server answers the questions that
have come while it was busy as one batch. One version decides at a time: actors pause before its
weights change.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TypeAlias, cast

import numpy as np

from nearer.algorithm.model import FoundationModel, ModelPolicy
from nearer.core.episode import EncodedObservation, Observation
from nearer.core.interfaces import Decision, Termination, TerminationRule
from nearer.core.seeds import Purpose, generator
from nearer.fleets.actors.actor import load_weights
from nearer.fleets.actors.messages import (
    Answer,
    Decided,
    DecideQuestion,
    EncodeQuestion,
    Question,
    Weights,
)
from nearer.fleets.encoded import Encoders


class ServedModels:
    """Answers the questions of all actors.

    Args:
        policy: acts; its weights change between versions.
        encoders: of policy and reward model, for all robots of the fleet; None: they have none.
        rule: ends episodes.
        num_robots: of the whole fleet.
    """

    def __init__(
        self,
        policy: FoundationModel,
        encoders: Encoders | None,
        rule: TerminationRule,
        num_robots: int,
    ) -> None:
        self._policy = policy
        self._encoders = encoders
        self._rule = rule
        self._rngs = [generator(Purpose.ACTIONS, 0)] * num_robots

    def load(self, weights: Weights) -> None:
        """Decide by these weights from now on."""
        load_weights(self._policy, weights)

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """Return the answers, in the order of the questions; those of one kind are one batch."""
        kinds: dict[str, list[int]] = defaultdict(list)
        for number, question in enumerate(questions):
            is_start = isinstance(question, EncodeQuestion) and question.at_start
            kinds[f"{type(question).__name__} {is_start}"].append(number)
        answers: dict[int, Answer] = {}
        for numbers in kinds.values():
            asked = [questions[number] for number in numbers]
            together = self._answer_batch(asked)
            ends = np.cumsum([len(question.robots) for question in asked]).tolist()
            for number, first, end in zip(numbers, [0, *ends], ends, strict=False):
                answers[number] = _rows(together, slice(first, end))
        return [answers[number] for number in range(len(questions))]

    def _answer_batch(self, questions: Sequence[Question]) -> Answer:
        robots = np.concatenate([question.robots for question in questions])
        instructions = [text for question in questions for text in question.instructions]
        to_encode = [one for one in questions if isinstance(one, EncodeQuestion)]
        if to_encode:
            observation = _join([one.observation for one in to_encode])
            at_start = to_encode[0].at_start
            assert self._encoders is not None, "only models with a vision encoder are asked"
            return self._encoders.encode(robots, observation, instructions, at_start=at_start)
        to_decide = [one for one in questions if isinstance(one, DecideQuestion)]
        for question in to_decide:
            for robot, seed in question.starting.items():
                self._rngs[robot] = generator(Purpose.ACTIONS, seed)
        encoded = _join_encoded([one.observation for one in to_decide])
        rngs = [self._rngs[robot] for robot in cast(list[int], robots.tolist())]
        return Decided(
            termination=self._rule.check(encoded, instructions, robots),
            decision=ModelPolicy(self._policy).act(encoded, instructions, robots, rngs),
        )


MakeModels: TypeAlias = Callable[[], ServedModels]
"""Makes the models where they are served; must be picklable."""


def _rows(answer: Answer, rows: slice) -> Answer:
    if isinstance(answer, EncodedObservation):
        return answer.rows(rows)
    termination, decision = answer.termination, answer.decision
    prediction = termination.prediction
    return Decided(
        termination=Termination(
            done=termination.done[rows],
            prediction=prediction.rows(rows) if prediction else None,
        ),
        decision=Decision(actions=decision.actions[rows], log_prob=decision.log_prob[rows]),
    )


def _join(parts: Sequence[Observation]) -> Observation:
    if len(parts) == 1:
        return parts[0]
    return Observation(
        agent_pos=np.concatenate([part.agent_pos for part in parts]),
        environment_state=np.concatenate([part.environment_state for part in parts]),
        images={
            camera: np.concatenate([part.images[camera] for part in parts])
            for camera in parts[0].images
        },
    )


def _join_encoded(parts: Sequence[EncodedObservation]) -> EncodedObservation:
    if len(parts) == 1:
        return parts[0]
    return EncodedObservation(
        observation=_join([part.observation for part in parts]),
        features=np.concatenate([part.features for part in parts]),
        reward_features=np.concatenate([part.reward_features for part in parts]),
    )
