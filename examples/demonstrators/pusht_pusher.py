"""Demonstrations of PushT by a scripted pusher, as a LeRobotDataset.

    pip install 'nearer[pusht]'
    python examples/demonstrators/pusht_pusher.py --episodes 200 --out data
    nearer sft --data data --model mlp --out sft
    nearer improve --run sft --env gym_pusht/PushT-v0 \
        --env-kwargs obs_type=environment_state_agent_pos --out practice

The pusher sees where the T's corners are, and where itself. It tries pushes in a simulator of its
own, does a good one - round the T, then against one of its edges - and looks again. Its hand
wavers, and it seldom takes the best push that there is.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gym_pusht
import gymnasium
import numpy as np

import nearer
from nearer.configs import CollectConfig
from nearer.core.episode import EncodedObservation
from nearer.core.interfaces import Decision, Rngs
from nearer.fleets.env_settings import EnvSettings

ENV = f"{gym_pusht.__name__}/PushT-v0"
# All lengths are pixels of the 512 x 512 board. A pose is x, y and the angle of the T.
GOAL = np.array([256.0, 256.0, np.pi / 4])
CORNERS = np.array(  # as the env's environment_state lists them: the bar's, then the stem's
    [[-60, 30], [60, 30], [60, 0], [-60, 0], [-15, 30], [-15, 120], [15, 120], [15, 30]], float
)
OUTLINE = np.array(  # with the T on the left of every edge
    [[-60, 0], [60, 0], [60, 30], [15, 30], [15, 120], [-15, 120], [-15, 30], [-60, 30]], float
)
MIDDLE = np.array([[0.0, 45.0]])
PUSHER_RADIUS, GAP = 15.0, 6.0
DETOUR_RADIUS, DETOUR_STRIDE = 118.0, 40.0  # round the T's middle; a control step
RETREAT = 25.0
MAX_PUSH_STEPS = 14
STEPS_OF_A_PUSH_WEIGH = 0.15  # pixels of error that a control step of pushing is worth


@dataclass(frozen=True)
class Push:
    """A straight push, and what the T's corners are off after it.

    Attributes:
        start: of the pusher, beside the T.
        along: unit vector.
        stride: pixels a control step.
        steps: control steps.
        error: mean distance of the corners to their places.
    """

    start: np.ndarray
    along: np.ndarray
    stride: float
    steps: int
    error: float

    @property
    def cost(self) -> float:
        return self.error + STEPS_OF_A_PUSH_WEIGH * self.steps

    def targets(self) -> list[np.ndarray]:
        return [self.start + self.stride * (step + 1) * self.along for step in range(self.steps)]


class Pusher:
    """Does one of the best of a few pushes that it tries, then looks again.

    Args:
        tried: pushes that are tried.
        best: of them, one of so many is done while the T is far off.
        waver: standard deviation of its hand, pixels.
    """

    def __init__(self, tried: int = 60, best: int = 3, waver: float = 3.0) -> None:
        self._simulator = gymnasium.make(ENV, disable_env_checker=True).unwrapped
        self._simulator.reset()
        self._tried, self._best, self._waver = tried, best, waver
        self._planned: dict[int, list[np.ndarray]] = {}
        self._last_along: dict[int, np.ndarray] = {}

    def begin(self, robots: np.ndarray, rngs: Rngs) -> None:
        for robot in robots:
            self._planned[robot] = []
            self._last_along[robot] = np.zeros(2)

    def act(
        self,
        observation: EncodedObservation,
        instructions: Sequence[str],
        robots: np.ndarray,
        rngs: Rngs,
    ) -> Decision:
        actions = []
        for row, (robot, rng) in enumerate(zip(robots, rngs, strict=True)):
            pusher = observation.agent_pos[row].astype(float)
            corners = observation.environment_state[row].astype(float).reshape(8, 2)
            if not self._planned[robot]:
                self._planned[robot] = self._plan(robot, pusher, pose_of(corners), rng)
            action = self._planned[robot].pop(0) + rng.normal(0, self._waver, 2)
            actions.append(np.clip(action, 0, 512))
        return Decision(
            actions=np.asarray(actions, np.float32), log_prob=np.zeros(len(robots), np.float32)
        )

    def _plan(
        self, robot: int, pusher: np.ndarray, pose: np.ndarray, rng: np.random.Generator
    ) -> list[np.ndarray]:
        """Return targets of the pusher, one a control step: round the T, then a push."""
        error = error_of(pose)
        tries = [self._try_push(pose, error, rng) for _ in range(self._tried)]
        pushes = sorted((push for push in tries if push is not None), key=lambda push: push.cost)
        if not pushes:  # the T lies against walls on all sides that were tried
            return [pusher]
        near = error < 20
        push = pushes[0 if near else rng.integers(min(self._best, len(pushes)))]
        retreat = pusher - RETREAT * self._last_along[robot]
        self._last_along[robot] = push.along
        return [retreat, *detour(pusher, pose, push.start), push.start, push.start, *push.targets()]

    def _try_push(self, pose: np.ndarray, error: float, rng: np.random.Generator) -> Push | None:
        """Return a push against an edge, with its best length; None if a wall is in the way."""
        edge = rng.integers(len(OUTLINE))
        a, b = OUTLINE[edge], OUTLINE[(edge + 1) % len(OUTLINE)]
        touched = a + rng.uniform(0.05, 0.95) * (b - a)
        inwards = np.arctan2(b[0] - a[0], a[1] - b[1]) + rng.normal(0, 0.3)
        angle = pose[2] + inwards
        along = np.array([np.cos(angle), np.sin(angle)])
        start = placed(pose, touched[None])[0] - (PUSHER_RADIUS + GAP) * along
        if (start < 20).any() or (start > 492).any():
            return None
        stride = np.clip(error / 3, 4, 16) * rng.uniform(0.7, 1.3)
        errors = self._errors_of(pose, start, along, stride)
        steps = int(np.argmin(errors)) + 1
        return Push(start=start, along=along, stride=stride, steps=steps, error=errors[steps - 1])

    def _errors_of(
        self, pose: np.ndarray, start: np.ndarray, along: np.ndarray, stride: float
    ) -> list[float]:
        """Return the error after every control step of a push."""
        simulator = self._simulator
        simulator.agent.position, simulator.agent.velocity = tuple(start), (0, 0)
        block = simulator.block
        block.velocity, block.angular_velocity = (0, 0), 0
        # The angle first: it turns the T about its centre of gravity, which moves its position.
        block.angle = pose[2]
        block.position = tuple(pose[:2])
        simulator.space.reindex_shapes_for_body(block)
        simulator.space.reindex_shapes_for_body(simulator.agent)
        errors: list[float] = []
        for step in range(MAX_PUSH_STEPS):
            simulator.step(np.clip(start + stride * (step + 1) * along, 16, 496))
            errors.append(error_of(np.array([*block.position, block.angle])))
            if errors[-1] > min(errors) + 15:
                break
        return errors


def detour(pusher: np.ndarray, pose: np.ndarray, start: np.ndarray) -> list[np.ndarray]:
    """Return the way on a circle round the T; none if the start is near."""
    if np.hypot(*(pusher - start)) < 45:
        return []
    middle = placed(pose, MIDDLE)[0]
    begin, end = (np.arctan2(*(point - middle)[::-1]) for point in (pusher, start))
    short = (end - begin + np.pi) % (2 * np.pi) - np.pi
    ways = [circle(middle, begin, turn) for turn in (short, short - 2 * np.pi * np.sign(short))]
    outside = [int(((way < 16) | (way > 496)).any(axis=1).sum()) for way in ways]
    return list(ways[int(outside[1] < outside[0])].clip(16, 496))


def circle(middle: np.ndarray, begin: float, turn: float) -> np.ndarray:
    """Return points of the detour, a control step apart."""
    steps = max(1, int(np.ceil(abs(turn) * DETOUR_RADIUS / DETOUR_STRIDE)))
    angles = begin + turn * np.linspace(0, 1, steps + 1)
    return middle + DETOUR_RADIUS * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def placed(pose: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return where points of the T lie on the board."""
    x, y, angle = pose
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return points @ turn + (x, y)


def pose_of(corners: np.ndarray) -> np.ndarray:
    """Return the pose of a T whose corners lie here: the rotation of least squares."""
    before, now = CORNERS - CORNERS.mean(axis=0), corners - corners.mean(axis=0)
    across = (before[:, 0] * now[:, 1] - before[:, 1] * now[:, 0]).sum()
    angle = np.arctan2(across, (before * now).sum())
    origin = corners.mean(axis=0) - placed(np.array([0, 0, angle]), CORNERS).mean(axis=0)
    return np.array([*origin, angle])


def error_of(pose: np.ndarray) -> float:
    """Return the mean distance of the T's corners to their places, pixels."""
    return float(np.hypot(*(placed(pose, CORNERS) - placed(GOAL, CORNERS)).T).mean())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Demonstrations of PushT by a scripted pusher.")
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resume", action="store_true", help="go on where it was interrupted")
    options = parser.parse_args()
    config = CollectConfig(
        env=ENV,
        env_settings=EnvSettings(
            env_kwargs=("obs_type=environment_state_agent_pos",),
            instruction="push the T onto its place",
        ),
        episodes=options.episodes,
        max_steps=300,
        num_envs=4,
        seed=options.seed,
        out=options.out,
        resume=options.resume,
    )
    successful = nearer.collect(config, demonstrator=Pusher())
    print(f"{successful} of {options.episodes} episodes are in {options.out}")
