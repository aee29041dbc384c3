"""Inception (Szegedy et al. 2015): kernels of several sizes side by side, their maps one after the other.

With batch normalisation and without auxiliary classifiers, as torchvision has it. Torchvision's 5×5 branch
has a 3×3 kernel by mistake (pytorch/vision#906), and so has `googlenet` by default, so that the same weights
fit; `large=5` is the paper's.
"""

from __future__ import annotations

import torch
from torch import nn

from darkroom.models.architectures.features import Layers, Parts
from darkroom.models.architectures.layers import averaged, normed, stem
from darkroom.models.architectures.registry import architecture

PAPER = "Szegedy et al. 2015"
Row = tuple[int, int, int, int, int, int]
MODULES: dict[str, Row] = {  # table 1: 1×1, 3×3 reduce, 3×3, 5×5 reduce, 5×5, pool projection
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
SMALL = {
    "inception_small": ("Five modules of table 1 at half their width, for images of 32 pixels.", ("reduced",)),
    "inception_small_naive": ("inception_small without the 1×1 convolutions that reduce (figure 2a).", ("naive",)),
    "inception_small_stack": ("inception_small with a 3×3 convolution of as many maps in place of each module.", ("stack",)),
    "inception_small_reduced_stack": ("inception_small_stack with a 1×1 convolution before each 3×3.", ("reduced_stack",)),
}


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    return normed(inputs, outputs, kernel, stride, activation=nn.ReLU(inplace=True), eps=0.001)


class Inception(nn.Module):
    """A module of four branches: with 1×1 convolutions that reduce the channels (figure 2b), or naive (figure
    2a).

    The naive one passes all its inputs through the pooling branch, so that modules grow wider and wider;
    `outputs` says how wide.
    """

    def __init__(self, inputs: int, row: Row, large: int = 5, is_naive: bool = False) -> None:
        super().__init__()
        one, reduce3, three, reduce5, five, project = row
        pool = nn.MaxPool2d(3, 1, 1)
        self.branch1 = _conv(inputs, one, 1)
        if is_naive:
            self.branch2: nn.Module = _conv(inputs, three, 3)
            self.branch3: nn.Module = _conv(inputs, five, large)
            self.branch4: nn.Module = pool
            self.outputs = one + three + five + inputs
        else:
            self.branch2 = nn.Sequential(_conv(inputs, reduce3, 1), _conv(reduce3, three, 3))
            self.branch3 = nn.Sequential(_conv(inputs, reduce5, 1), _conv(reduce5, five, large))
            self.branch4 = nn.Sequential(pool, _conv(inputs, project, 1))
            self.outputs = one + three + five + project

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


@architecture(PAPER)
def googlenet(size: int, channels: int, *, large: int = 3, dropout: float = 0.2) -> Parts:
    """Table 1: nine modules."""
    body: Layers = {
        "conv1": _conv(channels, 64, 7, stem(size, 2)), "pool1": nn.MaxPool2d(3, 2, ceil_mode=True),
        "conv2_reduce": _conv(64, 64, 1), "conv2": _conv(64, 192, 3), "pool2": nn.MaxPool2d(3, 2, ceil_mode=True),
    }  # fmt: skip
    inputs = 192
    for name, row in MODULES.items():
        body[name] = module = Inception(inputs, row, large)
        inputs = module.outputs
        if name == "3b":
            body["pool3"] = nn.MaxPool2d(3, 2, ceil_mode=True)
        elif name == "4e":
            body["pool4"] = nn.MaxPool2d(2, 2, ceil_mode=True)
    return Parts(body, {**averaged(), "drop": nn.Dropout(dropout)}, inputs)


@architecture(PAPER, size=32, classes=10, variants=SMALL)
def inception_few(size: int, channels: int, kind: str, *, width: float = 0.5) -> Parts:
    """Five modules of table 1."""
    inputs = max(1, round(128 * width))
    body: Layers = {"conv1": _conv(channels, inputs, 3)}
    for name in ("3a", "3b", "4a", "4b", "5a"):
        one, reduce3, three, reduce5, five, project = (max(1, round(maps * width)) for maps in MODULES[name])
        outputs = one + three + five + project
        if kind == "stack":
            body[name] = _conv(inputs, outputs, 3)
        elif kind == "reduced_stack":
            reduced = reduce3 + reduce5
            body[name] = nn.Sequential(_conv(inputs, reduced, 1), _conv(reduced, outputs, 3))
        else:
            body[name] = module = Inception(inputs, (one, reduce3, three, reduce5, five, project), is_naive=kind == "naive")
            outputs = module.outputs
        inputs = outputs
        if name in ("3b", "4b"):
            body[f"pool{name[0]}"] = nn.MaxPool2d(3, 2, ceil_mode=True)
    return Parts(body, averaged(), inputs)
