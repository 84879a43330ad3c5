"""One self-contained HTML page about runs: `nearer report`."""

DRAWN_ENV = "nearer/PointMass-v0"
"""The env whose rollouts the report draws as paths; of other envs it shows videos.

Observations: agent_pos [x, y, vx, vy], environment_state [goal x, goal y], in metres.
"""
