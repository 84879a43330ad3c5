"""One self-contained HTML page about runs: `nearer report`."""

DRAWN_ENV = "nearer/PointMass-v0"
"""Whose rollouts the report draws, a path each; of other envs it shows films.

Observations: agent_pos [x, y, vx, vy], environment_state [goal x, goal y], in metres.
"""
