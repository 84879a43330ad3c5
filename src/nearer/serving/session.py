"""The models behind a server, and the agent of each robot that is connected."""

from dataclasses import dataclass
from time import perf_counter
from typing import Any

from nearer.algorithm.model import FoundationModel
from nearer.core.errors import MessageError
from nearer.core.seeds import Purpose, generator
from nearer.serving.agent import ActionChunk, Agent, Estimate
from nearer.serving.request import PROMPT, read_question

_MAX_INSTRUCTIONS = 10_000
"""Different instructions a server takes: models keep what they made of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Robot:
    """A robot that is connected.

    Attributes:
        number: of its connection.
        agent: acts for it, and remembers what it showed.
    """

    number: int
    agent: Agent


class ServedPolicy:
    """A policy and its reward model, ready to answer one robot at a time.

    Not for several threads at once.

    Args:
        policy: acts.
        reward_model: predicts steps-to-go; may be the policy itself.
        threshold_steps: s, in the reward model's own steps; None: nothing is said about done.
        seed: of the actions; each robot draws from a stream of its own.
    """

    def __init__(
        self,
        policy: FoundationModel,
        reward_model: FoundationModel,
        threshold_steps: float | None,
        seed: int,
    ) -> None:
        self._policy, self._reward_model = policy, reward_model
        self._threshold_steps = threshold_steps
        self._seed = seed
        self._instructions: set[str] = set()

    def robot(self, number: int) -> Robot:
        """Return a robot of which nothing is known yet."""
        rng = generator(Purpose.SERVING, self._seed, number)
        agent = Agent(self._policy, self._reward_model, self._threshold_steps, rng)
        return Robot(number=number, agent=agent)

    def metadata(self, robot: Robot) -> dict[str, Any]:
        """Return what a client is told when it connects."""
        spaces = self._policy.spaces
        return {
            "server": "nearer",
            "model": str(self._policy.config()["model"]),
            "state": spaces.agent_pos,
            "environment_state": spaces.environment_state,
            "images": {
                camera.name: [camera.height, camera.width, 3] for camera in robot.agent.cameras
            },
            "action": spaces.axes,
            "chunk": spaces.chunking.chunk,
            "control_hz": spaces.control_hz,
            "threshold_steps": robot.agent.threshold_steps,
            "robot": robot.number,
            "seed": self._seed,
        }

    def answer(self, robot: Robot, message: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to a robot's message, and remember what it showed.

        Raises:
            MessageError: the message does not fit the checkpoint.
            ConfigError: the model does not know the instruction.
        """
        agent = robot.agent
        question = read_question(message, self._policy.spaces, agent.cameras)
        started = perf_counter()
        instruction = self._instruction(agent, question.instruction)
        ask = agent.act if question.act else agent.observe
        answer = ask(question.observation, instruction, reset=question.reset)
        self._instructions.add(instruction)  # once the model has taken it
        return _as_message(answer) | {
            "policy_timing": {"infer_ms": 1000 * (perf_counter() - started)}
        }

    def _instruction(self, agent: Agent, prompt: str | None) -> str:
        """Return what a robot is asked to do: what it says now, or else what it said before."""
        instruction = agent.instruction if prompt is None else prompt
        if instruction is None and agent.cameras:
            raise MessageError(
                f"an observation must come with {PROMPT}, the instruction, got none; send it at "
                "least with the first one"
            )
        instruction = instruction or ""
        if instruction not in self._instructions and len(self._instructions) >= _MAX_INSTRUCTIONS:
            raise MessageError(
                f"a server must not be asked for more than {_MAX_INSTRUCTIONS} different "
                "instructions, got one more; start nearer serve again"
            )
        return instruction


def _as_message(answer: Estimate) -> dict[str, Any]:
    """Return an answer under the names of the protocol; what it does not say is left out."""
    said: dict[str, Any] = {}
    if isinstance(answer, ActionChunk):
        said |= {"actions": answer.actions, "log_prob": answer.log_prob}
    said |= {"steps_to_go": answer.steps_to_go, "steps_to_go_std": answer.steps_to_go_std}
    return said if answer.success is None else said | {"done": answer.success}
