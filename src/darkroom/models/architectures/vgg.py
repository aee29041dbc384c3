"""VGG (Simonyan and Zisserman 2015): 3×3 convolutions, deeper and deeper, optionally batch-normalised."""

from __future__ import annotations

from torch import nn

from darkroom.models.architectures.features import Layers, Parts
from darkroom.models.architectures.layers import Grid, averaged, pooled
from darkroom.models.architectures.registry import architecture

PAPER = "Simonyan and Zisserman 2015"
COLUMNS = {  # table 1: the widths of each stage's convolutions; maximum pooling after each stage
    "A": ((64,), (128,), (256, 256), (512, 512), (512, 512)),
    "B": ((64, 64), (128, 128), (256, 256), (512, 512), (512, 512)),
    "D": ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512)),
    "E": ((64, 64), (128, 128), (256, 256, 256, 256), (512, 512, 512, 512), (512, 512, 512, 512)),
}


@architecture(PAPER)
def vgg11(size: int, channels: int, *, dense: int = 4096) -> Parts:
    """Column A: 8 convolutions."""
    return _vgg("A", size, channels, dense)


@architecture(PAPER)
def vgg13(size: int, channels: int, *, dense: int = 4096) -> Parts:
    """Column B: 10 convolutions."""
    return _vgg("B", size, channels, dense)


@architecture(PAPER)
def vgg16(size: int, channels: int, *, dense: int = 4096) -> Parts:
    """Column D: 13 convolutions."""
    return _vgg("D", size, channels, dense)


@architecture(PAPER)
def vgg19(size: int, channels: int, *, dense: int = 4096) -> Parts:
    """Column E: 16 convolutions."""
    return _vgg("E", size, channels, dense)


@architecture(PAPER)
def vgg11_bn(size: int, channels: int, *, dense: int = 4096) -> Parts:
    """Column A with batch normalisation (Ioffe and Szegedy 2015)."""
    return _vgg("A", size, channels, dense, is_normed=True)


@architecture(PAPER)
def vgg13_bn(size: int, channels: int, *, dense: int = 4096) -> Parts:
    """Column B with batch normalisation."""
    return _vgg("B", size, channels, dense, is_normed=True)


@architecture(PAPER)
def vgg16_bn(size: int, channels: int, *, dense: int = 4096) -> Parts:
    """Column D with batch normalisation."""
    return _vgg("D", size, channels, dense, is_normed=True)


@architecture(PAPER)
def vgg19_bn(size: int, channels: int, *, dense: int = 4096) -> Parts:
    """Column E with batch normalisation."""
    return _vgg("E", size, channels, dense, is_normed=True)


def _vgg(column: str, size: int, channels: int, dense: int, is_normed: bool = False) -> Parts:
    """Build a column of table 1; with `dense=0` average pooling replaces the fully connected layers."""
    body: Layers = {}
    inputs = channels
    for stage, widths in enumerate(COLUMNS[column], 1):
        for i, width in enumerate(widths, 1):
            body[f"conv{stage}_{i}"] = nn.Conv2d(inputs, width, 3, padding=1)
            if is_normed:
                body[f"norm{stage}_{i}"] = nn.BatchNorm2d(width)
            body[f"relu{stage}_{i}"] = nn.ReLU(inplace=True)
            inputs = width
        size = pooled(body, f"pool{stage}", size, window=2)
    if not dense:
        return Parts(body, averaged(), inputs)
    side = min(7, size)
    neck = {
        "grid": Grid(side), "flatten": nn.Flatten(1),
        "fc6": nn.Linear(inputs * side * side, dense), "relu6": nn.ReLU(inplace=True), "drop6": nn.Dropout(0.5),
        "fc7": nn.Linear(dense, dense), "relu7": nn.ReLU(inplace=True), "drop7": nn.Dropout(0.5),
    }  # fmt: skip
    return Parts(body, neck, dense)
