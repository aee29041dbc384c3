"""Show how predictions change while a patch of the image is covered."""

from __future__ import annotations

from pathlib import Path

import click

from darkroom.commands.lab import image_io
from darkroom.commands.lab.options import image_argument, network_command
from darkroom.core.errors import printable
from darkroom.core.lazy import lazy_imports

with lazy_imports():
    from darkroom.lab import drawing, networks, occlusion


@network_command("occlusion")
@image_argument
@click.option("--class", "label", metavar="NAME", help="the class whose probability is shown", show_default="the most probable one")
@click.option("--patch", type=int, metavar="N", help="pixels a side of the patch", show_default="a fifth of the image")
@click.option("--stride", type=int, metavar="N", help="pixels from one place to the next", show_default="a third of the patch")
def command(
    inspected: networks.InspectedNetwork, image: Path, label: str | None, patch: int | None, stride: int | None
) -> drawing.Sheet:
    """Show how predictions change while a grey patch covers a part of the image: which places the class
    depends on."""
    classes = inspected.class_names()
    pixels = image_io.read_input(image, inspected.preprocessing)
    patch = max(1, inspected.size // 5) if patch is None else patch
    stride = max(1, patch // 3) if stride is None else stride
    uncovered = inspected.probabilities(pixels[None])[0]
    target = inspected.class_index(label) if label else int(uncovered.argmax())
    covered = occlusion.occlude(inspected.probabilities, pixels, patch, stride)
    drops = occlusion.spread(uncovered[target] - covered[..., target], inspected.size, patch, stride)
    name, side = printable(classes[target]), occlusion.SIDE
    middle = (inspected.size - patch) // 2
    example = occlusion.cover(pixels, [(middle, middle)], patch)[0]
    most = max(float(abs(drops).max()), 0.01)
    tiles = [
        drawing.Tile(drawing.fit(pixels, side), f"{image.name}\n{name} {uncovered[target]:.1%}"),
        drawing.Tile(drawing.fit(example, side), f"one place of the patch, {patch}×{patch},\nevery {stride} pixels"),
        drawing.Tile(
            drawing.fit(occlusion.overlay(pixels, drops, most), side),
            f"drop of {name} when a place is covered:\ndark nothing, bright {most:.1%} on average",
        ),
        occlusion.draw_predictions(covered, classes, inspected.size),
    ]
    note = "Each place is covered in turn by a patch of the image's mean colour. "
    note += f"Lowest {name}: {covered[..., target].min():.1%}, highest: {covered[..., target].max():.1%}."
    return drawing.Sheet(f"{inspected.description}: predictions while a patch is covered", [drawing.Row(tiles)], note)
