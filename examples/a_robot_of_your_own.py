"""A robot as an env: five methods of yours; rate, limits, watchdog and resets are around them.

    python examples/a_robot_of_your_own.py            # a script resets: the robot moves home
    python examples/a_robot_of_your_own.py person     # you reset the scene, and press Enter

`Arm` is simulated. With your robot in its place and this folder on PYTHONPATH, it practises by
nearer improve --env a_robot_of_your_own:lab/Arm-v0 --num-envs 1 --audits person --run runs/sft
"""

import sys
import time

import numpy as np
from gymnasium.spaces import Box, Dict

import nearer
from nearer.envs.robots.env import RobotEnv
from nearer.envs.robots.motion_limits import motion_limits


class Arm:
    """Two joints, in radians, and a camera. Each method is a few lines of your robot's software."""

    camera = Box(0, 255, (48, 64, 3), np.uint8)
    observation_space = Dict(
        {"agent_pos": Box(-3, 3, (2,), np.float32), "pixels": Dict({"front": camera})}
    )

    def __init__(self):
        self.joints = self.target = np.zeros(2)
        self.moved_s = time.monotonic()

    def observe(self):
        joints = self.positions()
        image = np.zeros((48, 64, 3), np.uint8)
        image[:, :32], image[:, 32:] = (128 + 60 * joints).astype(np.uint8)[:, None, None]
        image[0] = np.random.default_rng().integers(0, 30, (64, 3), np.uint8)
        return {"agent_pos": joints.astype(np.float32), "pixels": {"front": image}}

    def positions(self):
        now_s = time.monotonic()
        reach = 2.0 * (now_s - self.moved_s)  # it turns at 2 rad/s at most
        self.joints = self.joints + np.clip(self.target - self.joints, -reach, reach)
        self.moved_s = now_s
        return self.joints

    def command(self, action):
        self.positions()
        self.target = action

    def hold(self):
        self.command(self.positions())

    def close(self):
        print("arm: disconnected")


def make_arm(reset: str = "script") -> RobotEnv:
    ranges = {"shoulder": (-1.5, 1.5), "elbow": (0.0, 2.0)}  # radians
    limits = motion_limits(tuple(ranges), ranges, max_velocity=0.8, max_acceleration=4.0)
    home = {"shoulder": 0.0, "elbow": 0.2}
    return RobotEnv(Arm(), limits, fps=20, task="lift the cup", reset=reset, home=home)


ENV = nearer.register_env(make_arm, "lab/Arm-v0")

if __name__ == "__main__":
    robot = make_arm(*sys.argv[1:])
    robot.reset()
    for wanted in (0.01, 5.0, float("nan")):
        info = robot.step(np.array([wanted, 0.2], np.float32))[-1]
        print(f"wanted {wanted}, sent {info['executed_action'][0]:.3f}, clipped {info['clipped']}")
    time.sleep(0.5)  # the learner computes, and the watchdog holds the arm
    print("held:", robot.step(np.array([0.1, 0.2], np.float32))[-1]["held"])
    robot.stop("operator")  # from any thread; what is asked for now is not sent
    print("ended:", robot.step(np.array([1.0, 0.2], np.float32))[3], robot.summary())
    robot.close()
    print(nearer.testing.check_env(make_arm))
