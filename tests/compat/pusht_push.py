"""PushT by a scripted pusher, through both stages; run by compatibility.py.

    python pusht_push.py FOLDER

The pusher looks ahead: it draws plans of ten control steps, tries each in a PushT of its own, and
carries out the best. Prints one JSON line: demonstrations of those tried, and
success of both policies.
"""

import sys
from pathlib import Path

import numpy as np
from easy_pusht import GOAL, EasyPushT
from through_both_stages import through_both_stages

from nearer.core.interfaces import Decision
from nearer.fleets.env_settings import EnvSettings

STEPS = 10


class Imagined(EasyPushT):
    """PushT without its measure of coverage, which takes most of a step."""

    def _get_coverage(self):
        return 0.0

    def _set_state(self, state):
        # PushT sets the angle last, which moves the block: its centre of mass is not its origin.
        self.agent.position = list(state[:2])
        self.block.angle = state[4]
        self.block.position = list(state[2:4])
        self.space.step(self.dt)


class Pusher:
    """Pushes the block where a short look ahead says that it comes nearest to its goal."""

    def __init__(self):
        """Make the PushT that plans are tried in."""
        self._imagined = Imagined()
        self._queues = {}

    def begin(self, robots, rngs):
        """Forget the plans of these robots."""
        for robot in robots.tolist():
            self._queues[robot] = []

    def act(self, observation, instructions, robots, rngs):
        """Return the next action of each robot's plan."""
        actions = []
        for robot, state, rng in zip(robots.tolist(), observation.agent_pos, rngs, strict=True):
            if not self._queues[robot]:
                self._queues[robot] = list(self._best_plan(state, rng))
            actions.append(self._queues[robot].pop(0))
        return Decision(
            actions=np.array(actions, np.float32), log_prob=np.zeros(len(robots), np.float32)
        )

    def _best_plan(self, state, rng):
        """Return the best of plans drawn at random, then of some drawn around the best so far."""
        agent, block = np.asarray(state[:2], np.float64), np.asarray(state[2:4], np.float64)
        stay = np.stack([agent, agent])
        best, least = stay, self._cost_after(state, _positions(agent, stay))
        for spread, count in ((None, 50), (20, 15), (8, 15)):
            centre = best
            for _ in range(count):
                beside = block + rng.uniform(-120, 120, 2)
                across = beside + rng.uniform(-1, 1, 2) * rng.choice([15, 40, 90])
                corners = np.stack([beside, across])
                if spread is not None:
                    corners = centre + rng.normal(0, spread, (2, 2))
                cost = self._cost_after(state, _positions(agent, corners))
                if cost < least:
                    best, least = corners, cost
        if best is stay:  # look from another side
            best = np.stack([block + rng.uniform(-130, 130, 2)] * 2)
        return _positions(agent, best)

    def _cost_after(self, state, plan):
        self._imagined.reset(options={"reset_to_state": np.asarray(state, np.float64)})
        for action in plan:
            observed, *_ = self._imagined.step(action)
        return _cost(observed)


def _positions(agent, corners):
    """Return positions of the agent: to the first corner, then to the second."""
    half = STEPS // 2
    ways = [np.linspace(a, b, half + 1)[1:] for a, b in ((agent, corners[0]), corners)]
    return np.clip(np.concatenate(ways), 20, 492)


def _cost(state):
    """Return how far the block is from its goal: in pixels / 50, and in radians."""
    turned = (state[4] - GOAL[2] + np.pi) % (2 * np.pi) - np.pi
    return np.linalg.norm(state[2:4] - GOAL[:2]) / 50 + abs(turned)


if __name__ == "__main__":
    through_both_stages(
        Path(sys.argv[1]),
        env="easy_pusht/PushT-v0",
        settings=EnvSettings(),
        demonstrator=Pusher(),
        episodes=50,
        max_steps=150,
    )
