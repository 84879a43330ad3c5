"""Robots as Gymnasium envs: what runs on the robot's own machine. No torch.

RobotDriver (driver.py)            a robot: read, command, hold
RobotEnv (env.py)                  the env around a driver: rate, limits, watchdog, resets
LeRobotEnv (lerobot.py)            any robot of lerobot; the Gymnasium id `lerobot`
MotionLimiter (motion_limits.py)   limits of position, velocity and acceleration
SafeActions (safety.py)            the same limits around an env that is there already
Watchdog (watchdog.py)             holds a robot that hears nothing, and stops it when asked to
"""
