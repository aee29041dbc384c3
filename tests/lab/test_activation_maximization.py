"""Activation maximisation: the objective rises with every parametrization, the same each time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from darkroom.core.errors import ParamsError
from darkroom.lab import activation_maximization, layers
from tests.lab.test_layers import compact


@pytest.mark.parametrize("parametrization", activation_maximization.PARAMETRIZATIONS)
@pytest.mark.parametrize("grey", [False, True])
def test_the_activation_rises(parametrization, grey):
    """After a few steps each channel's mean is higher than at the start; grey images are grey."""
    network = compact()
    objective = activation_maximization.channel_objective(network, "stages.2.0.0", [0, 5])
    images, history = activation_maximization.maximize(objective, 2, 32, 24, parametrization=parametrization, grey=grey)
    assert images.shape == (2, 32, 32, 3)
    assert images.dtype == np.uint8
    assert (history[1] > history[0]).all()
    assert (images[..., 0] == images[..., 2]).all() == grey


def test_the_final_value_is_the_logit_of_the_picture():
    """The value at the end is, within rounding to bytes, the network's logit for the picture."""
    network = compact()
    images, history = activation_maximization.maximize(activation_maximization.class_objective(network, [2]), 1, 32, 16)
    logit = network(torch.from_numpy(images))[0, 2].item()
    assert abs(logit - history[1, 0]) < 0.02 * abs(history[1, 0] - history[0, 0]) + 1e-3


def test_the_same_seed_gives_the_same_picture():
    """The picture depends on the seed alone, and the global random state does not change."""
    network = compact()
    state = torch.random.get_rng_state()
    pictures = [
        activation_maximization.maximize(activation_maximization.class_objective(network, [0]), 1, 32, 4, seed=seed)[0]
        for seed in (0, 0, 1)
    ]
    assert (pictures[0] == pictures[1]).all()
    assert (pictures[0] != pictures[2]).any()
    assert torch.equal(state, torch.random.get_rng_state())


def test_an_inactive_or_absent_channel_is_refused():
    """A channel without a gradient, or that does not exist, is an error with a remedy."""
    network = compact()
    with torch.no_grad():
        layers.find_layer(network, "stages.0.0.1").bias.fill_(-1e4)
    with pytest.raises(ParamsError, match="inactive"):
        activation_maximization.maximize(activation_maximization.channel_objective(network, "stages.0.0.2", [0]), 1, 32, 4)
    with pytest.raises(ParamsError, match="has no channel 99"):
        activation_maximization.maximize(activation_maximization.channel_objective(network, "stages.0.0.0", [99]), 1, 32, 4)
