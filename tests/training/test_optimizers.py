"""Optimizers: torch's own arithmetic."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from darkroom.training.optimizers import OPTIMIZERS


def steps(make, model):
    torch.manual_seed(1)
    groups = [{"params": list(model[0].parameters()), "lr": 0.01}, {"params": list(model[2].parameters()), "lr": 0.1}]
    optimizer = make(groups)
    for number in range(5):
        for group in optimizer.param_groups:
            group["lr"] *= 0.9
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().mean().backward()
        if number == 2:
            model[0].bias.grad = None
        optimizer.step()
    return [parameter.detach().clone() for parameter in model.parameters()]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_are_those_of_torch(name):
    """Five steps with changing rates give bit for bit the weights of torch.optim's class, also where a
    gradient is missing.
    """
    theirs = {
        "adamw": lambda groups: torch.optim.AdamW(groups, weight_decay=0.1, fused=True),
        "sgd": lambda groups: torch.optim.SGD(groups, momentum=0.9, nesterov=True, weight_decay=0.1, fused=True),
        "adam": lambda groups: torch.optim.Adam(groups, weight_decay=0.1, fused=True),
        "heavy_ball": lambda groups: torch.optim.SGD(groups, momentum=0.9, weight_decay=0.1, fused=True),
        "plain_sgd": lambda groups: torch.optim.SGD(groups, weight_decay=0.1, fused=True),
    }[name]

    def model():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))

    for one, two in zip(
        steps(lambda groups: OPTIMIZERS[name](groups, weight_decay=0.1), model()), steps(theirs, model()), strict=True
    ):
        assert torch.equal(one, two)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_gradient_scaler_can_drive_them(name):
    """The loss scaling of 16-bit training works: scaled gradients are unscaled, and a step with infinite ones
    is left out.
    """
    layer = nn.Linear(2, 1, bias=False)
    optimizer = OPTIMIZERS[name]([{"params": [layer.weight], "lr": 0.1}], weight_decay=0.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    before = layer.weight.detach().clone()
    for value in (float("inf"), 1.0):
        optimizer.zero_grad()
        scaler.scale(layer(torch.full((1, 2), value)).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        assert torch.equal(layer.weight, before) == (value == float("inf"))
    assert layer.weight.grad == pytest.approx(torch.ones(1, 2))
