"""What a network costs an image, from a table, since building networks means importing torch.

`network_costs.csv` has a row for an architecture and an image size: parameters, the width of the embedding, and
for each of its blocks the layers, the multiply-adds, the numbers that the layers write, and those of its last
output, in millions but for width and layers. Blocks are those of fine-tuning. `python benchmarks/network_costs.py` writes it; a
test compares it with the networks.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from darkroom.models import factory
from darkroom.models.architectures import registry
from darkroom.models.backbones import registry as backbones

TABLE = Path(__file__).with_name("network_costs.csv")
CLASSIC = "classic/"  # prefix of our own architectures, some of which have the name of one of torchvision's
SMALL_IMAGE = 64  # pixels up to which a backbone's first convolution has stride 1; models.base has the same
_COMPACT_STAGES = (1, 2, 4, 8)


@dataclass(frozen=True)
class Cost:
    """The cost of a part of a network for one image: layers, multiply-adds, and numbers that the layers write."""

    layers: float
    multiply_adds: float
    outputs: float


@dataclass(frozen=True)
class NetworkCost:
    """Parameters, the width of the embedding, the cost of each block, and the numbers of its output, of one image."""

    parameters: float
    dim: int
    blocks: tuple[Cost, ...]
    maps: tuple[float, ...]

    def part(self, start: int = 0, stop: int | None = None) -> Cost:
        """Return the cost of blocks `start` to `stop`, by default of all."""
        chosen = self.blocks[start:stop]
        return Cost(
            sum(block.layers for block in chosen),
            sum(block.multiply_adds for block in chosen),
            sum(block.outputs for block in chosen),
        )

    def first_trained(self, amount: float) -> int:
        """Return the first block that fine-tuning trains, as `training.freezing` counts them."""
        count = len(self.blocks)
        return count - min(count, math.ceil(amount * count) if amount < 1 else int(amount))


def of_backbone(name: str, image_size: int) -> NetworkCost | None:
    """Return the cost of a backbone without its classifier; None where the table lacks it."""
    source, name_there = backbones.find(name)
    return _scaled(_rows().get(name_there if source == "torchvision" else name, {}), image_size)


def of_architecture(name: str, image_size: int, channels: int, width: int) -> NetworkCost | None:
    """Return the cost of an architecture by the name that `baseline.architecture` takes."""
    if name == factory.COMPACT:
        return _compact(image_size, channels, width)
    if name in registry.names():
        return _scaled(_rows().get(CLASSIC + name, {}), image_size)
    return of_backbone(name, image_size)


def _scaled(sizes: Mapping[int, NetworkCost], image_size: int) -> NetworkCost | None:
    """Return the row of the nearest size with its costs in proportion to the pixels."""
    if not sizes:
        return None
    fitting = [size for size in sizes if (size <= SMALL_IMAGE) == (image_size <= SMALL_IMAGE)] or list(sizes)
    size = min(fitting, key=lambda candidate: abs(math.log(candidate / image_size)))
    ratio, row = (image_size / size) ** 2, sizes[size]
    blocks = tuple(Cost(block.layers, block.multiply_adds * ratio, block.outputs * ratio) for block in row.blocks)
    return NetworkCost(row.parameters, row.dim, blocks, tuple(numbers * ratio for numbers in row.maps))


@cache
def _rows() -> dict[str, dict[int, NetworkCost]]:
    """Return the table: the costs of a network by name and image size."""
    result: dict[str, dict[int, NetworkCost]] = {}
    with TABLE.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            layers = map(float, row["layers"].split())
            products, outputs, maps = (_millions(row[key]) for key in ("multiply_adds", "outputs", "maps"))
            blocks = tuple(Cost(*parts) for parts in zip(layers, products, outputs, strict=True))
            result.setdefault(row["name"], {})[int(row["size"])] = NetworkCost(
                float(row["parameters"]) * 1e6, int(row["dim"]), blocks, maps
            )
    return result


def _millions(text: str) -> tuple[float, ...]:
    return tuple(float(word) * 1e6 for word in text.split())


def _compact(image_size: int, channels: int, width: int) -> NetworkCost:
    """Return the cost of the compact network (`models.architectures.compact`)."""
    products = outputs = parameters = 0.0
    size, inputs = image_size, channels
    layers = [(width, 5, 2)] if image_size > SMALL_IMAGE else []
    layers += [(width * factor, 3, 1) for factor in _COMPACT_STAGES for _ in range(2)]
    for number, (filters, kernel, stride) in enumerate(layers):
        size = -(-size // stride)
        weights = kernel * kernel * inputs * filters
        products += size * size * weights
        outputs += 3 * size * size * filters  # convolution, normalisation, ReLU
        parameters += weights + 2 * filters
        inputs = filters
        if stride == 1 and (number + len(layers)) % 2 and size >= 4:
            size //= 2
    return NetworkCost(parameters, inputs, (Cost(2 * len(layers), products, outputs),), (float(inputs),))
