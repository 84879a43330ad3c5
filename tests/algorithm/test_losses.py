"""Losses against hand-worked numbers and against each other."""

import math

import torch

from nearer.algorithm.losses import (
    behavioural_cloning_loss,
    instruction_loss,
    ppo_loss,
    reinforce_loss,
    steps_to_go_loss,
    truncated_importance_loss,
)


def test_behavioural_cloning_loss_is_negative_log_likelihood() -> None:
    log_prob = torch.tensor([0.5, 0.25]).log()
    assert torch.allclose(behavioural_cloning_loss(log_prob), torch.tensor([2.0, 4.0]).log())


def test_steps_to_go_loss_is_the_cross_entropy_of_the_bin_index() -> None:
    logits = torch.zeros(2, 8)
    logits[1, 3] = 100.0
    loss = steps_to_go_loss(logits, torch.tensor([5, 3]))
    assert torch.allclose(loss, torch.tensor([math.log(8), 0.0]))


def test_instruction_loss_takes_the_first_candidate_as_the_true_one() -> None:
    shares = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.6, 0.3]])
    loss = instruction_loss(shares.log() + torch.tensor([[5.0], [-2.0]]))
    assert torch.allclose(loss, torch.tensor([2.0, 10.0]).log())


def test_reinforce_loss_two_actions_equals_numbers_by_hand() -> None:
    loss = reinforce_loss(torch.tensor([-2.0, -3.0]), torch.tensor([10.0, -4.0]), scale=0.05)
    assert torch.allclose(loss, torch.tensor([1.0, -0.6]))


def test_ppo_loss_at_ratio_one_has_the_gradient_of_reinforce() -> None:
    acted = torch.tensor([-2.0, -3.0, 0.5])
    returns = torch.tensor([10.0, -4.0, 1.0])
    gradients = []
    for loss in (
        lambda p: reinforce_loss(p, returns, 0.05),
        lambda p: ppo_loss(p, acted, returns, 0.05, clip=0.2),
    ):
        log_prob = acted.clone().requires_grad_()
        loss(log_prob).sum().backward()
        gradients.append(log_prob.grad)
    assert torch.allclose(*gradients)


def test_ppo_loss_where_the_ratio_left_its_range_has_no_gradient() -> None:
    log_prob = torch.tensor([0.5, -0.5, 0.5, -0.5], requires_grad=True)
    returns = torch.tensor([1.0, 1.0, -1.0, -1.0])
    ppo_loss(log_prob, torch.zeros(4), returns, 1.0, clip=0.2).sum().backward()
    assert log_prob.grad is not None
    moved = (log_prob.grad != 0).tolist()
    # better actions already likelier, or worse ones already rarer, are left alone
    assert moved == [False, True, True, False]


def test_truncated_importance_loss_weighs_samples_up_to_its_cap_and_not_through_the_gradient() -> (
    None
):
    log_prob = torch.tensor([-1.0, -1.0, 90.0], requires_grad=True)
    acted = torch.tensor([-1.0 + math.log(2), -1.0, -90.0])  # ratios 1/2, 1, beyond any float
    returns = torch.tensor([10.0, -4.0, 2.0])
    truncated_importance_loss(log_prob, acted, returns, 0.5, cap=1.5).sum().backward()
    assert log_prob.grad is not None
    assert torch.allclose(log_prob.grad, torch.tensor([-2.5, 2.0, -1.5]))
