"""What steps-to-go gives, by hand: progress rewards, returns and success of one episode.

    python examples/steps_to_go_by_hand.py

A model says at each observation how it spreads its belief over the steps that are left; the rest
is arithmetic (paper, eqs. 1-4).
"""

import torch

from nearer.algorithm.steps_to_go import (
    StepsToGoBins,
    discounted_returns,
    expected_steps,
    is_solved,
    progress_rewards,
)

bins = StepsToGoBins(count=8, width_steps=1)
belief = torch.tensor(
    [
        [0.0, 0.0, 0.0, 0.0, 0.1, 0.2, 0.4, 0.3],  # far away, and not sure how far
        [0.0, 0.0, 0.1, 0.2, 0.4, 0.2, 0.1, 0.0],  # two steps nearer
        [0.0, 0.0, 0.0, 0.1, 0.2, 0.4, 0.2, 0.1],  # slipped back
        [0.0, 0.3, 0.5, 0.2, 0.0, 0.0, 0.0, 0.0],  # a good push
        [0.9, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],  # there
    ]
)
d = expected_steps(belief, bins)
rewards = progress_rewards(d)
returns = discounted_returns(rewards, discount=0.9)
solved = is_solved(d, threshold_steps=0.3)

print("t   d(o_t)   r_t    R_t   solved")
for t in range(len(d)):
    after = f"{rewards[t]:+5.1f}  {returns[t]:+5.2f}" if t < len(rewards) else " " * 12
    print(f"{t}  {d[t]:6.2f}  {after}   {'yes' if solved[t] else 'no'}")
