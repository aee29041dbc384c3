"""Show the learned filters of a convolution."""

from __future__ import annotations

import click

from darkroom.commands.lab.options import before_option, network_command
from darkroom.core.lazy import lazy_imports

with lazy_imports():
    from darkroom.lab import drawing, filters, networks


@network_command("filters")
@click.argument("layer", required=False, metavar="[LAYER]")
@click.option(
    "--most", type=click.IntRange(min=1), default=16, metavar="N", help="number of filters and of their channels, by norm"
)
@before_option
def command(inspected: networks.InspectedNetwork, layer: str | None, most: int, before: bool) -> drawing.Sheet:
    """Show the learned filters of a convolution: of the first layer in RGB, of later ones channel by channel.

    LAYER is the name of a convolution, by default the first one.
    """
    name, module = filters.find_convolution(inspected.network, layer)
    rows = [filters.draw_row(module, most, inspected.description)]
    if before:
        initial = filters.find_convolution(inspected.untrained(), name)[1]
        rows.insert(0, filters.draw_row(initial, most, f"before training (seed {inspected.seed})", module))
        if len(rows[0].tiles) == 1:  # mosaics fit side by side
            captions = ["\n".join([row.heading, *row.remark.split("; ")]) for row in rows]
            tiles = [drawing.Tile(row.tiles[0].pixels, caption) for row, caption in zip(rows, captions, strict=True)]
            rows = [drawing.Row(tiles)]
    outputs, inputs, height, width = filters.weights_of(module).shape
    note = f"{outputs} filters, each of {inputs} channel{'s' if inputs > 1 else ''} of {height}×{width} weights. Mid-grey is zero, "
    note += "brighter positive, darker negative" + ("; each filter is scaled by its largest weight." if inputs in (1, 3) else ".")
    return drawing.Sheet(f"Filters of {name}", rows, note)
