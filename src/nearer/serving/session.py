"""The models behind a server, and what it remembers of each robot between messages."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np
import torch

from nearer.algorithm.model import FoundationModel, inputs_of, reward_inputs_of
from nearer.algorithm.steps_to_go import expected_steps, is_solved, spread_steps
from nearer.core.episode import EncodedObservation
from nearer.core.errors import MessageError
from nearer.core.seeds import Purpose, generator
from nearer.core.spaces import Camera
from nearer.fleets.encoded import StatefulEncoder, separate_reward_encoder
from nearer.serving.request import PROMPT, ActRequest, read_request
from nearer.serving.response import ActResponse, ServerMetadata

_ROBOT = np.zeros(1, dtype=np.int64)  # every robot is slot 0 of encoders of its own
_MAX_INSTRUCTIONS = 10_000
"""Different instructions that a server accepts: models cache what they computed for each."""


@dataclass(slots=True)
class RobotSession:
    """State of one connected robot.

    Attributes:
        number: of its connection.
        rng: of its actions, and of nothing else.
        encoders: vision encoders with this robot's tracking state, by the observation's field.
        instruction: None before the first one.
        started: whether it has been observed under this instruction.
    """

    number: int
    rng: np.random.Generator
    encoders: dict[str, StatefulEncoder]
    instruction: str | None = None
    started: bool = False


class ServedPolicy:
    """A policy and its reward model, serving one robot at a time.

    Not thread-safe.

    Args:
        policy: acts.
        reward_model: predicts steps-to-go; may be the policy itself.
        threshold_steps: s, in the reward model's own steps; None: `done` is left out.
        seed: of the actions; each robot has a random stream of its own.
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
        encoders = {
            "features": policy.vision_encoder,
            "reward_features": separate_reward_encoder(
                policy.vision_encoder, reward_model.vision_encoder
            ),
        }
        self._encoders = {name: encoder for name, encoder in encoders.items() if encoder}
        self._cameras: tuple[Camera, ...] = policy.spaces.cameras if self._encoders else ()
        self._instructions: set[str] = set()

    def new_session(self, number: int) -> RobotSession:
        """Return the session of a robot that has just connected."""
        return RobotSession(
            number=number,
            rng=generator(Purpose.SERVING, self._seed, number),
            encoders={
                name: StatefulEncoder(encoder, 1) for name, encoder in self._encoders.items()
            },
        )

    def metadata(self, session: RobotSession) -> ServerMetadata:
        """Return what a client is sent when it connects."""
        spaces = self._policy.spaces
        return ServerMetadata(
            model=str(self._policy.config()["model"]),
            state=spaces.agent_pos,
            environment_state=spaces.environment_state,
            images={camera.name: (camera.height, camera.width, 3) for camera in self._cameras},
            action=spaces.axes,
            chunk=spaces.chunking.chunk,
            control_hz=spaces.control_hz,
            threshold_steps=None
            if self._threshold_steps is None
            else self._in_control_steps(self._threshold_steps),
            robot=session.number,
            seed=self._seed,
        )

    def respond(self, session: RobotSession, message: Mapping[str, object]) -> ActResponse:
        """Return the response to a robot's message, and update its session.

        Raises:
            MessageError: the message does not fit the checkpoint.
            ConfigError: the model does not know the instruction.
        """
        request = read_request(message, self._policy.spaces, self._cameras)
        started_s = perf_counter()
        instruction = self._instruction(session, request)
        observation = self._encoded(session, request, instruction)
        response = self._infer(session, observation, instruction, act=request.act)
        self._instructions.add(instruction)  # once the model has accepted it
        return replace(response, infer_ms=1000 * (perf_counter() - started_s))

    def _instruction(self, session: RobotSession, request: ActRequest) -> str:
        """Return the instruction that holds now: the request's, or else the last one."""
        instruction = session.instruction if request.instruction is None else request.instruction
        if instruction is None and self._encoders:
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

    def _encoded(
        self, session: RobotSession, request: ActRequest, instruction: str
    ) -> EncodedObservation:
        """Return the request's observation with features in place of its images."""
        at_start = request.reset or not session.started or instruction != session.instruction
        features = {
            name: encoder.encode(_ROBOT, request.observation, [instruction], at_start=at_start)
            for name, encoder in session.encoders.items()
        }
        session.instruction, session.started = instruction, True
        encoded = EncodedObservation.without_features(replace(request.observation, images={}))
        return replace(encoded, **features)

    def _infer(
        self, session: RobotSession, observation: EncodedObservation, instruction: str, *, act: bool
    ) -> ActResponse:
        """Return the policy's actions, if they are wanted, and the reward model's prediction."""
        inputs = inputs_of(observation, [instruction])
        reward_inputs = reward_inputs_of(observation, [instruction])
        actions = log_prob = None
        with torch.inference_mode():
            if act and self._reward_model is self._policy:
                decision, log_prob, logits = self._policy.answers(inputs, [session.rng])
            else:
                logits = self._reward_model.steps_to_go_logits(reward_inputs)
                decision = None
                if act:
                    decision, log_prob = self._policy.sample(inputs, [session.rng])
            if decision is not None:
                chunking = self._policy.spaces.chunking
                actions = chunking.split(decision.numpy(), observation.agent_pos)[0]
            probabilities = logits.softmax(dim=-1)
            steps = expected_steps(probabilities, self._reward_model.bins)
            std = spread_steps(probabilities, self._reward_model.bins)
        threshold = self._threshold_steps
        return ActResponse(
            actions=actions,
            log_prob=None if log_prob is None else float(log_prob[0]),
            steps_to_go=self._in_control_steps(float(steps[0])),
            steps_to_go_std=self._in_control_steps(float(std[0])),
            done=None if threshold is None else bool(is_solved(steps, threshold)[0]),
            infer_ms=0.0,
        )

    def _in_control_steps(self, steps: float) -> float:
        """Return the reward model's steps, which are chunks for some models, as control steps."""
        return steps * self._reward_model.spaces.chunking.chunk
