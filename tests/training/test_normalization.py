"""Batch normalisation of networks that are trained from scratch: what they predict with after few steps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from darkroom.training import normalization
from darkroom.training.batches import Examples
from darkroom.training.loop import fit
from tests.training.test_loop import COMPUTE, examples, hyper, network


def norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


@pytest.mark.parametrize("momentum", [0.1, 0.001])
def test_a_network_of_few_steps_predicts_what_it_has_learned(momentum):
    """After eight steps the accuracy is that with the statistics of the training images, whatever the momentum of the
    moving average, and not that of a network whose statistics have hardly moved."""
    model = network()
    for norm in norms(model):
        norm.momentum = momentum
        norm.running_mean += 3  # far from where it will be
    trained = fit(model, examples(), examples(seed=1), hyper(epochs=2, lr=0.02, warmup_epochs=0), COMPUTE, 2)
    assert trained.best["val_accuracy"] > 0.9


def test_frozen_statistics_stay():
    """Where statistics are frozen, they are those of before."""
    model = network()
    before = [norm.running_mean.clone() for norm in norms(model)]
    fit(model, examples(), examples(seed=1), hyper(epochs=1), COMPUTE, 2, freeze_statistics=True)
    assert all(torch.equal(norm.running_mean, mean) for norm, mean in zip(norms(model), before, strict=True))


def test_layers_in_evaluation_mode_stay():
    """Only layers in training mode are computed again; afterwards the network is in evaluation mode."""
    model = nn.Sequential(nn.BatchNorm2d(1), nn.BatchNorm2d(1))
    model.train()
    model[0].eval()
    normalization.recompute(model, [torch.full((4, 1, 2, 2), 5.0), torch.zeros(1, 1, 2, 2)])
    assert float(model[0].running_mean) == 0
    assert float(model[1].running_mean) == pytest.approx(5, rel=1e-4)
    assert not model.training
    assert not model[1].training


def test_momentum_is_raised_and_not_lowered():
    """A momentum below PyTorch's default is raised to it; a larger one and a cumulative average stay."""
    model = nn.Sequential(*(nn.BatchNorm2d(1, momentum=momentum) for momentum in (0.01, 0.3, None)))
    normalization.set_momentum(model)
    assert [norm.momentum for norm in model] == [0.1, 0.3, None]


def test_statistics_are_those_of_mixed_classes():
    """Images sorted by class give the same accuracy: the statistics are computed from batches in a drawn order."""
    data = examples(128)
    order = np.argsort(data.labels, kind="stable")
    sorted_examples = Examples(data.inputs[:, order], data.labels[order])
    trained = fit(network(), sorted_examples, examples(seed=1), hyper(epochs=2, lr=0.02), COMPUTE, 2)
    assert trained.best["val_accuracy"] > 0.9
