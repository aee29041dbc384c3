"""Activation maximisation: the activation rises, in every way of making an image, the same each time."""

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
    objective = activation_maximization.channels(network, "stages.2.0.0", [0, 5])
    shown, grown = activation_maximization.maximize(objective, 2, 32, 24, parametrization=parametrization, grey=grey)
    assert shown.shape == (2, 32, 32, 3)
    assert shown.dtype == np.uint8
    assert (grown[1] > grown[0]).all()
    assert (shown[..., 0] == shown[..., 2]).all() == grey


def test_what_rises_is_what_the_network_says_of_the_picture():
    """The value at the end is, within rounding to bytes, the logit that the network gives for the picture."""
    network = compact()
    shown, grown = activation_maximization.maximize(activation_maximization.classes(network, [2]), 1, 32, 16)
    said = network(torch.from_numpy(shown))[0, 2].item()
    assert abs(said - grown[1, 0]) < 0.02 * abs(grown[1, 0] - grown[0, 0]) + 1e-3


def test_the_same_seed_gives_the_same_picture():
    """The seed alone decides, and the global random state is left as it was."""
    network = compact()
    state = torch.random.get_rng_state()
    made = [
        activation_maximization.maximize(activation_maximization.classes(network, [0]), 1, 32, 4, seed=seed)[0]
        for seed in (0, 0, 1)
    ]
    assert (made[0] == made[1]).all()
    assert (made[0] != made[2]).any()
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_silent_or_absent_channel_is_refused():
    """A channel that cannot move, or that is not there, is an error with a remedy."""
    network = compact()
    with torch.no_grad():
        layers.find(network, "stages.0.0.1").bias.fill_(-1e4)
    with pytest.raises(ParamsError, match="silent"):
        activation_maximization.maximize(activation_maximization.channels(network, "stages.0.0.2", [0]), 1, 32, 4)
    with pytest.raises(ParamsError, match="has no channel 99"):
        activation_maximization.maximize(activation_maximization.channels(network, "stages.0.0.0", [99]), 1, 32, 4)
