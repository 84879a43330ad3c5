"""The models behind a server, and the agent of each robot that is connected."""

from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter

from nearer.algorithm.model import FoundationModel
from nearer.core.errors import MessageError
from nearer.core.seeds import Purpose, generator
from nearer.serving.agent import ActionChunk, Agent
from nearer.serving.client_format import OWN_FORMAT, PROMPT, ClientFormat
from nearer.serving.request import ActRequest, read_request
from nearer.serving.response import ActResponse, ServerMetadata

_MAX_INSTRUCTIONS = 10_000
"""Different instructions that a server accepts: models cache what they computed for each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RobotSession:
    """A connected robot.

    Attributes:
        number: of the connection that it began with; its random stream is of this number.
        agent: acts for it, and tracks what it observes.
        name: that the robot gave itself; None: it gave none.
    """

    number: int
    agent: Agent
    name: str | None = None


class ServedPolicy:
    """A policy and its reward model, serving one robot at a time.

    Not thread-safe.

    Args:
        policy: acts.
        reward_model: predicts steps-to-go; may be the policy itself.
        threshold_steps: s, in the reward model's own steps; None: `done` is left out.
        seed: of the actions; each robot has a random stream of its own.
        client: how messages are to be read.
    """

    def __init__(
        self,
        policy: FoundationModel,
        reward_model: FoundationModel,
        threshold_steps: float | None,
        seed: int,
        client: ClientFormat = OWN_FORMAT,
    ) -> None:
        self._policy, self._reward_model = policy, reward_model
        self._threshold_steps = threshold_steps
        self._seed = seed
        self._client = client
        self._instructions: set[str] = set()

    def new_session(self, number: int, name: str | None = None) -> RobotSession:
        """Return the session of a robot that has just connected, by its name if it has one."""
        rng = generator(Purpose.SERVING, self._seed, number)
        agent = Agent(self._policy, self._reward_model, self._threshold_steps, rng)
        return RobotSession(number=number, agent=agent, name=name)

    def metadata(self, session: RobotSession, *, resumed: bool = False) -> ServerMetadata:
        """Return what a client is sent when it connects.

        Args:
            session: of the robot.
            resumed: whether the robot had this session in an earlier connection.
        """
        spaces = self._policy.spaces
        return ServerMetadata(
            model=str(self._policy.config()["model"]),
            state=spaces.agent_pos,
            environment_state=spaces.environment_state,
            images={
                camera.name: (camera.height, camera.width, 3) for camera in session.agent.cameras
            },
            action=spaces.axes,
            chunk=spaces.chunking.chunk,
            control_hz=spaces.control_hz,
            threshold_steps=session.agent.threshold_steps,
            robot=session.number,
            name=session.name,
            resumed=resumed,
            seed=self._seed,
        )

    def respond(self, session: RobotSession, message: Mapping[str, object]) -> ActResponse:
        """Return the response to a robot's message, and update its session.

        Raises:
            MessageError: the message does not fit the checkpoint.
            ConfigError: the model does not know the instruction.
        """
        agent = session.agent
        request = read_request(message, self._policy.spaces, agent.cameras, self._client)
        started_s = perf_counter()
        instruction = self._instruction(agent, request)
        infer = agent.act if request.act else agent.observe
        answer = infer(request.observation, instruction, reset=request.reset)
        self._instructions.add(instruction)  # once the model has accepted it
        return ActResponse(
            actions=answer.actions if isinstance(answer, ActionChunk) else None,
            log_prob=answer.log_prob if isinstance(answer, ActionChunk) else None,
            steps_to_go=answer.steps_to_go,
            steps_to_go_std=answer.steps_to_go_std,
            done=answer.success,
            infer_ms=1000 * (perf_counter() - started_s),
        )

    def _instruction(self, agent: Agent, request: ActRequest) -> str:
        """Return the instruction that holds now: the request's, else the last one, else ours."""
        given = (request.instruction, agent.instruction, self._client.instruction)
        instruction = next((text for text in given if text is not None), None)
        if instruction is None and agent.cameras:
            raise MessageError(
                f"an observation must come with {PROMPT}, the instruction, got none; send it at "
                "least with the first one, or start nearer serve with --instruction"
            )
        instruction = instruction or ""
        if instruction not in self._instructions and len(self._instructions) >= _MAX_INSTRUCTIONS:
            raise MessageError(
                f"a server must not be asked for more than {_MAX_INSTRUCTIONS} different "
                "instructions, got one more; start nearer serve again"
            )
        return instruction
