"""How good a policy, a reward model and a success detector are; the readers of ground truth."""
