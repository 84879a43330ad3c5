"""How good a policy, a reward and a detector really are; the readers of ground truth."""
