"""LeNet-5 (LeCun et al. 1998, figure 2): convolutions and subsampling, then three layers as in a perceptron.

As it is built today: subsampling is an average without weights of its own, each map of C3 sees all six of S2,
and the output is linear, not a distance from drawn digits. The paper has 28-pixel digits in the middle of 32;
smaller images get that margin here.
"""

from __future__ import annotations

from torch import nn

from darkroom.models.architectures.features import Parts
from darkroom.models.architectures.layers import Grid, activation_of
from darkroom.models.architectures.registry import architecture


@architecture("LeCun et al. 1998", size=32, channels=1, classes=10)
def lenet5(size: int, channels: int, *, activation: str = "tanh") -> Parts:
    """C1, S2, C3, S4 on the map; C5 and F6 make 84 numbers of it."""
    margin = max(0, 33 - size) // 2
    body = {
        "c1": nn.Conv2d(channels, 6, 5, padding=margin), "act1": activation_of(activation), "s2": nn.AvgPool2d(2),
        "c3": nn.Conv2d(6, 16, 5), "act3": activation_of(activation), "s4": nn.AvgPool2d(2),
    }  # fmt: skip
    neck = {
        "grid": Grid(5), "c5": nn.Conv2d(16, 120, 5), "act5": activation_of(activation), "flatten": nn.Flatten(1),
        "f6": nn.Linear(120, 84), "act6": activation_of(activation),
    }  # fmt: skip
    return Parts(body, neck, 84)
