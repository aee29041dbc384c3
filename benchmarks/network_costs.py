"""Write the table of what networks cost, which `darkroom check` estimates minutes and gigabytes from.

    python benchmarks/network_costs.py [FILE]

Networks are built on torch's meta device, so nothing is computed. It takes a few minutes.
"""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import nn

from darkroom.core import atomic
from darkroom.models import macs
from darkroom.models.architectures import features, registry
from darkroom.models.backbones import chains, torchvision, torchvision_tables
from darkroom.models.hooks import observing
from darkroom.preflight import network_costs

HEADER = ["name", "size", "parameters", "dim", "layers", "multiply_adds", "outputs", "maps"]
SIZES = (64, 224)
Row = list[str | int]


def backbone(name: str, size: int) -> Row:
    """Return the row of a torchvision network: a number for each block that fine-tuning can unfreeze."""
    net = torchvision.classifier(name, size, 1000)
    layout = torchvision.LAYOUTS.get(type(net).__name__)
    if layout:
        blocks = chains.blocks([unit for part in layout.body for unit in chains.units(getattr(net, part))])
    else:
        encoder = net.get_submodule("encoder.layers").children()
        blocks = [[net.get_submodule("conv_proj")], *([layer] for layer in encoder)]
    shapes: dict[nn.Module, tuple[int, ...]] = {}

    def observer(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        shapes[module] = tuple(output.shape[1:])

    ends = [units[-1] for units in blocks]
    with observing(net, ends, observer):
        rows = macs.layers(net, (3, size, size))
    modules = dict(net.named_modules())
    block_of = {module: number for number, units in enumerate(blocks) for unit in units for module in unit.modules()}
    layers, products, outputs = [0] * len(blocks), [0] * len(blocks), [0] * len(blocks)
    for row in rows:
        number = block_of.get(modules[row.name])
        if number is not None:
            layers[number] += 1
            products[number] += row.multiply_adds
            outputs[number] += math.prod(row.output) if row.output else 0
    head = (torchvision._head_name(net), "aux1", "aux2", "AuxLogits")
    parameters = sum(p.numel() for key, p in net.named_parameters() if key.split(".")[0] not in head)
    last = shapes[ends[-1]]
    maps = [math.prod(shapes[end]) for end in ends]
    numbers = [" ".join(map(str, layers)), *map(_joined, (products, outputs, maps))]
    return [name, size, *_millions([parameters]), last[-1 if len(last) == 2 else 0], *numbers]


def classic(name: str) -> Row:
    """Return the row of one of our own architectures at its native size; it is trained as a whole."""
    entry = registry.entries()[name]
    with torch.device("meta"):
        net = features.classifier(name, entry.classes, entry.channels, entry.size, None, {})
    rows = macs.layers(net, (entry.channels, entry.size, entry.size))
    parts = ([sum(row.multiply_adds for row in rows)], [sum(math.prod(row.output) for row in rows if row.output)], [0])
    return [
        network_costs.CLASSIC + name,
        entry.size,
        *_millions([sum(row.parameters for row in rows)]),
        1,
        str(len(rows)),
        *map(_joined, parts),
    ]


def _millions(values: Iterable[float]) -> list[str]:
    return [f"{value / 1e6:.4g}" for value in values]


def _joined(values: Iterable[float]) -> str:
    return " ".join(_millions(values))


def rows() -> Iterator[Row]:
    """Yield all rows; sizes that a network cannot take have none."""
    for name in torchvision_tables.names():
        for size in SIZES:
            try:
                yield backbone(name, size)
            except Exception as error:
                print(f"{name} at {size} pixels: {type(error).__name__}: {error}", file=sys.stderr)
    for name, entry in registry.entries().items():
        if entry.kind == registry.CLASSIFIER:
            yield classic(name)


def main() -> None:
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else network_costs.TABLE
    with atomic.new_file(file) as working, working.open("w", newline="", encoding="utf-8") as content:
        writer = csv.writer(content, lineterminator="\n")
        writer.writerow(HEADER)
        writer.writerows(rows())


if __name__ == "__main__":
    main()
