"""Show the receptive fields of layers."""

from __future__ import annotations

from math import isinf

import click

from darkroom.commands.lab import image_io
from darkroom.commands.lab.options import network_command
from darkroom.core.lazy import lazy_imports

with lazy_imports():
    from darkroom.core import tables
    from darkroom.lab import drawing, layers, networks, plots, receptive_field

MAX_MEASURED = 10  # layers whose gradient is measured, if none are named
KINDS = ("convolution", "pooling")  # of the layers that are listed
HEADER = ("layer", "kind", "output", "stride", "receptive field", "effective")


@network_command("receptive-field", ".csv")
@click.option("--layer", "names", multiple=True, metavar="NAME", help="measure this layer; several times for several")
@click.option(
    "--images", type=click.IntRange(min=1), default=4, metavar="N", help="random images that the gradient is averaged over"
)
def command(inspected: networks.InspectedNetwork, names: tuple[str, ...], images: int) -> drawing.Sheet:
    """Show how much of the image each layer sees: in theory, from kernels and strides, and measured, from
    gradients."""
    inspected.network.requires_grad_(False)
    modules = layers.named_layers(inspected.network)
    for name in names:
        layers.find_layer(inspected.network, name)
    fields = {
        name: (field, shape)
        for name, (field, shape) in receptive_field.fields(inspected.network, inspected.size).items()
        if name in names or (layers.kind(modules[name]) in KINDS and len(shape) == 3 and shape[1] > 1)
    }
    measured = list(names) or [list(fields)[i] for i in image_io.spaced(len(fields), MAX_MEASURED)]
    noise = receptive_field.noise(images, inspected.size)
    influences = {name: receptive_field.effective(inspected.network, name, noise) for name in measured}
    sizes = {name: receptive_field.effective_size(influence) for name, influence in influences.items()}
    rows = [
        (name, type(modules[name]).__name__, "×".join(map(str, shape)), _format(down.step), _format(down.size),
         f"{sizes[name]:.1f}" if name in sizes else "")
        for name, ((down, _), shape) in fields.items()
    ]  # fmt: skip
    tables.show(HEADER, rows, right=HEADER[2:])
    tiles = []
    for name, influence in influences.items():
        (down, _), shape = fields[name]
        caption = f"{name}\n{_format(down.size)} theoretical, {sizes[name]:.0f} effective"
        tiles.append(drawing.Tile(receptive_field.draw(influence, down, shape[1] // 2), caption))
    theory = {name: down.size for name, ((down, _), _) in fields.items()}
    chart = drawing.Tile(plots.receptive_fields(theory, influences, inspected.size))
    note = f"Images of {inspected.size} pixels a side; a larger theoretical field reaches into the padding. "
    note += "Effective: pixels whose gradient is above 4.55% of the largest, as the side of a square (Luo et al. 2016)."
    legend = "brightness is the gradient of the middle unit (square root), the frame its theoretical field"
    sheet = [drawing.Row([chart], "By depth"), drawing.Row(tiles, "The field of the middle unit", legend)]
    texts = {".csv": image_io.to_csv(HEADER, rows)}
    return drawing.Sheet(f"Receptive fields of {inspected.description}", sheet, note, texts)


def _format(value: float) -> str:
    return "whole" if isinf(value) else f"{value:.0f}"
