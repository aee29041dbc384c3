"""The learned filters of a convolution: of the first layer in RGB, of later ones channel by channel; --before training too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from darkroom.commands.lab import image_io, network_resolver
from darkroom.core.errors import ParamsError

if TYPE_CHECKING:
    from torch import nn

    from darkroom.lab import drawing

WIDE = 520  # pixels of a mosaic, about


def main(arguments: list[str]) -> None:
    parser = image_io.parser("filters", __doc__)
    network_resolver.arguments(parser)
    parser.add_argument("layer", nargs="?", metavar="LAYER", help="a convolution by name; default: the first")
    parser.add_argument("--most", type=int, default=16, help="filters and their channels, those of the largest norm (16)")
    parser.add_argument("--before", action="store_true", help="also with the initial weights of its seed")
    given = parser.parse_args(arguments)
    if given.most < 1:
        raise ParamsError(f"--most {given.most} shows nothing", "give 1 or more")
    image_io.check(given)
    from darkroom.lab import drawing, filters

    subject = network_resolver.find(given)
    name, module = filters.convolution(subject.network, given.layer)
    rows = [row(module, given.most, subject.said)]
    if given.before:
        seed = network_resolver.seed(given)
        fresh = filters.convolution(network_resolver.untrained(subject, seed), name)[1]
        rows.insert(0, row(fresh, given.most, f"before training (seed {seed})", module))
        if len(rows[0].tiles) == 1:  # side by side
            about = [f"{item.heading}\n{item.remark.replace('; ', chr(10))}" for item in rows]
            rows = [drawing.Row([drawing.Tile(item.tiles[0].pixels, said) for item, said in zip(rows, about, strict=True)])]
    outputs, inputs, height, width = filters.weights(module).shape
    note = f"{outputs} filters, each of {inputs} channel{'s' if inputs > 1 else ''} of {height}×{width} weights. Mid-grey is zero, "
    note += "brighter positive, darker negative" + ("; each filter by its own largest weight." if inputs in (1, 3) else ".")
    image_io.write(given, drawing.sheet(f"Filters of {name}", rows, note))


def row(module: nn.Conv2d, most: int, said: str, after: nn.Conv2d | None = None) -> drawing.Row:
    """Return the filters of a convolution as tiles, or as one mosaic of filters by channels: those that are largest `after`."""
    import numpy as np

    from darkroom.lab import drawing, filters

    weights, chosen_by = filters.weights(module), filters.weights(after or module)
    outputs, inputs, height, width = weights.shape
    if inputs in (1, 3):
        chosen = filters.largest(chosen_by, 0, max(most, 64))
        side = 60 if len(chosen) <= 64 else 40
        shown = filters.colours(weights[chosen] if inputs == 3 else np.repeat(weights[chosen], 3, 1))
        return drawing.Row([drawing.Tile(drawing.fitted(item, side), str(i)) for i, item in zip(chosen, shown, strict=True)], said)
    if height == width == 1:
        most = max(most, 128)
    rows, columns = filters.largest(chosen_by, 0, most), filters.largest(chosen_by, 1, most)
    shown = filters.shades(weights[rows][:, columns])
    gap = 0 if height == 1 else 2
    cell = max(1, (WIDE // len(columns) - gap) // width)
    remark = f"rows: filters {_some(rows, outputs)}; columns: their channels {_some(columns, inputs)}"
    return drawing.Row([drawing.Tile(filters.mosaic(shown, min(cell, 12), gap))], said, remark)


def _some(numbers: object, of: int) -> str:
    found = [int(number) for number in numbers]  # type: ignore[attr-defined]
    if len(found) == of:
        return f"0 to {of - 1}"
    return f"({len(found)} of {of}, of the largest norm)"
