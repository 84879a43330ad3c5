"""The models behind a server, and what it remembers of each robot between messages."""

from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np
import torch

from nearer.algorithm.model import FoundationModel, inputs_of, reward_inputs_of
from nearer.algorithm.steps_to_go import expected_steps, is_solved, spread_steps
from nearer.core.chunk_actions import split_decisions
from nearer.core.episode import EncodedObservation
from nearer.core.errors import MessageError
from nearer.core.seeds import Purpose, generator
from nearer.core.spaces import Camera
from nearer.fleets.encoded import StatefulEncoder, separate_reward_encoder
from nearer.serving.request import PROMPT, Question, read_question

_ONE = np.zeros(1, dtype=np.int64)  # every robot is slot 0 of a memory of its own
_MAX_INSTRUCTIONS = 10_000
"""Different instructions a server takes: models keep what they made of each."""


@dataclass(slots=True)
class Robot:
    """What is known of one robot.

    Attributes:
        number: of its connection.
        randomness: of its actions; nobody else draws from it.
        followers: what each sight saw before, by the observation's field.
        instruction: what it is asked to do; None before it was told.
        started: it was seen since it was told so.
    """

    number: int
    rngs: np.random.Generator
    followers: dict[str, StatefulEncoder]
    instruction: str | None = None
    started: bool = False


class ServedPolicy:
    """A policy and its judge, ready to answer one robot at a time.

    Not for several threads at once.

    Args:
        policy: acts.
        termination: tells steps-to-go; may be the policy itself.
        threshold_steps: s of the judge, in its own steps; None: nothing is said about done.
        seed: of the actions; each robot draws from a stream of its own.
    """

    def __init__(
        self,
        policy: FoundationModel,
        termination: FoundationModel,
        threshold_steps: float | None,
        seed: int,
    ) -> None:
        self._policy, self._judge = policy, termination
        self._threshold_steps = threshold_steps
        self._seed = seed
        other = separate_reward_encoder(policy.vision_encoder, termination.vision_encoder)
        named = {"features": policy.vision_encoder, "reward_features": other}
        self._sights = {
            name: vision_encoder for name, vision_encoder in named.items() if vision_encoder
        }
        self._cameras: tuple[Camera, ...] = policy.spaces.cameras if self._sights else ()
        self._instructions: set[str] = set()

    def robot(self, number: int) -> Robot:
        """Return a robot of which nothing is known yet."""
        return Robot(
            number=number,
            rngs=generator(Purpose.SERVING, self._seed, number),
            followers={
                name: StatefulEncoder(vision_encoder, 1)
                for name, vision_encoder in self._sights.items()
            },
        )

    def metadata(self, robot: Robot) -> dict[str, Any]:
        """Return what a client is told when it connects."""
        spaces = self._policy.spaces
        return {
            "server": "nearer",
            "model": str(self._policy.config()["model"]),
            "state": spaces.agent_pos,
            "environment_state": spaces.environment_state,
            "images": {one.name: [one.height, one.width, 3] for one in self._cameras},
            "action": spaces.axes,
            "chunk": spaces.chunking.chunk,
            "control_hz": spaces.control_hz,
            "threshold_steps": self._in_control_steps(self._threshold_steps),
            "robot": robot.number,
            "seed": self._seed,
        }

    def answer(self, robot: Robot, message: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to a robot's message, and remember what it showed.

        Raises:
            MessageError: the message does not fit the checkpoint.
            ConfigError: the model does not know the instruction.
        """
        question = read_question(message, self._policy.spaces, self._cameras)
        started = perf_counter()
        observation, instruction = self._seen(robot, question)
        answer = self._answered(robot, observation, instruction, act=question.act)
        self._instructions.add(instruction)  # once the model has taken it
        return answer | {"policy_timing": {"infer_ms": 1000 * (perf_counter() - started)}}

    def _seen(self, robot: Robot, question: Question) -> tuple[EncodedObservation, str]:
        """Return the observation with features of its pictures, and its instruction."""
        instruction = robot.instruction if question.instruction is None else question.instruction
        if instruction is None and self._sights:
            raise MessageError(
                f"an observation must come with {PROMPT}, the instruction, got none; send it at "
                "least with the first one"
            )
        asked = instruction or ""
        if asked not in self._instructions and len(self._instructions) >= _MAX_INSTRUCTIONS:
            raise MessageError(
                f"a server must not be asked for more than {_MAX_INSTRUCTIONS} different "
                "instructions, got one more; start nearer serve again"
            )
        at_start = question.reset or not robot.started or asked != robot.instruction
        features = {
            name: one.encode(_ONE, question.observation, [asked], at_start=at_start)
            for name, one in robot.followers.items()
        }
        robot.instruction, robot.started = asked, True
        seen = EncodedObservation.without_features(replace(question.observation, images={}))
        return replace(seen, **features), asked

    def _answered(
        self, robot: Robot, observation: EncodedObservation, instruction: str, *, act: bool
    ) -> dict[str, Any]:
        inputs = inputs_of(observation, [instruction])
        judged = reward_inputs_of(observation, [instruction])
        answer: dict[str, Any] = {}
        with torch.inference_mode():
            if act and self._judge is self._policy:
                decision, log_prob, logits = self._policy.answers(inputs, [robot.rngs])
            else:
                logits = self._judge.steps_to_go_logits(judged)
                decision = log_prob = None
                if act:
                    decision, log_prob = self._policy.sample(inputs, [robot.rngs])
            if decision is not None and log_prob is not None:
                chunking = self._policy.spaces.chunking
                actions = split_decisions(chunking, decision.numpy(), observation.agent_pos)[0]
                answer |= {"actions": actions, "log_prob": float(log_prob[0])}
            probabilities = logits.softmax(dim=-1)
            steps = expected_steps(probabilities, self._judge.bins)
            spread = spread_steps(probabilities, self._judge.bins)
        answer["steps_to_go"] = self._in_control_steps(float(steps[0]))
        answer["steps_to_go_std"] = self._in_control_steps(float(spread[0]))
        if self._threshold_steps is not None:
            answer["done"] = bool(is_solved(steps, self._threshold_steps)[0])
        return answer

    def _in_control_steps(self, steps: float | None) -> float | None:
        """Return the judge's steps, which are chunks where it was trained on such, as ours."""
        return None if steps is None else steps * self._judge.spaces.chunking.chunk
