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
VARIANTS = {  # column of table 1, whether it is batch-normalised
    "vgg11": ("Column A: 8 convolutions.", ("A", False)),
    "vgg13": ("Column B: 10 convolutions.", ("B", False)),
    "vgg16": ("Column D: 13 convolutions.", ("D", False)),
    "vgg19": ("Column E: 16 convolutions.", ("E", False)),
    "vgg11_bn": ("Column A with batch normalisation (Ioffe and Szegedy 2015).", ("A", True)),
    "vgg13_bn": ("Column B with batch normalisation.", ("B", True)),
    "vgg16_bn": ("Column D with batch normalisation.", ("D", True)),
    "vgg19_bn": ("Column E with batch normalisation.", ("E", True)),
}


@architecture(PAPER, variants=VARIANTS)
def vgg(size: int, channels: int, column: str, is_normed: bool, *, dense: int = 4096) -> Parts:
    """A column of table 1; with `dense=0` average pooling replaces the fully connected layers."""
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
