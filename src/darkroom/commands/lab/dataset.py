"""Show the images of a data set by class, before anything is trained on them."""

from __future__ import annotations

import click

from darkroom.commands.lab.options import picture_command
from darkroom.commands.param_types import DATASET
from darkroom.core.lazy import lazy_imports

with lazy_imports():
    from darkroom.data import subsets
    from darkroom.lab import class_images, drawing


@picture_command("images")
@click.option("--data", default="digits", type=DATASET, help="a named data set, a folder of classes, an archive, an .npz")
@click.option("--source", default="download", help="source of named data sets: download, or a folder with their files")
@click.option("--size", type=click.IntRange(min=8), default=32, metavar="N", help="pixels a side")
@click.option("--images", type=click.IntRange(1, 100), default=12, metavar="N", help="images of each class")
def images_command(data: str, source: str, size: int, images: int) -> drawing.Sheet:
    """Show training images of each class beside the mean of the class: what a network gets to see.

    A held-out image can be classified by the nearest mean, without any training; the share of correct ones is printed.
    """
    subset = subsets.load_subset(subsets.SubsetOptions(data, size, 3, None, 0.2, source))
    names = subset.classes
    accuracy = class_images.nearest_mean_accuracy(subset.train, subset.held_out, len(names))
    note = (
        f"{len(subset.train[1]):,} training and {len(subset.held_out[1]):,} held-out images of {data}, {size} pixels a side, "
        f"{len(names)} classes. The framed picture is the mean of the class. The nearest mean is that of the right class for "
        f"{accuracy:.1%} of the held-out images."
    )
    click.echo(note)
    rows = class_images.draw_rows(subset.train, names, images)
    if len(rows) < len(names):
        note += f" The first {len(rows)} classes are shown."
    return drawing.Sheet("Images by class", rows, note)
