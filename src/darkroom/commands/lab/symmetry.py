"""Show the weights of hidden units before and after training, from equal and from different initial weights."""

from __future__ import annotations

import click

from darkroom.commands.lab import image_io
from darkroom.commands.lab.options import picture_command
from darkroom.commands.param_types import DATASET
from darkroom.core.command_line import Many
from darkroom.core.lazy import lazy_imports

with lazy_imports():
    import torch

    from darkroom.data import subsets
    from darkroom.lab import drawing, symmetry

SCHEMES = ("constant", "kaiming")
TABLE = ("scheme", "distinct", "units", "accuracy")


@picture_command("symmetry", ".csv")
@click.option("--scheme", "schemes", cls=Many, default=SCHEMES, metavar="NAME …", help="schemes of `darkroom study initialization`")
@click.option("--units", type=click.IntRange(2, 100), default=12, metavar="N", help="units of the hidden layer")
@click.option("--steps", type=click.IntRange(min=1), default=500, metavar="N", help="steps of 64 images")
@click.option("--data", default="digits", type=DATASET, help="a named data set, a folder of classes, an archive, an .npz")
@click.option("--source", default="download", help="source of named data sets: download, or a folder with their files")
@click.option("--size", type=click.IntRange(min=8), default=16, metavar="N", help="pixels a side; images are grey")
@click.option("--seed", type=click.IntRange(min=0), default=0, metavar="N", help="seed of the weights and of the order of images")
def symmetry_command(
    schemes: tuple[str, ...], units: int, steps: int, data: str, source: str, size: int, seed: int
) -> drawing.Sheet:  # fmt: skip
    """Show what hidden units of a perceptron have learned, from equal initial weights and from random ones.

    A table (.csv) of the numbers of different units is written beside the picture.

    Equal weights get equal gradients and stay equal: the symmetry is not broken, and a hundred units are worth one.
    """
    torch.set_num_threads(1)  # repeats bit by bit
    subset = subsets.load_subset(subsets.SubsetOptions(data, size, 1, None, 0.2, source))
    results = [symmetry.train(scheme, subset.train, subset.held_out, units, steps, seed) for scheme in schemes]
    for result in results:
        click.echo(
            f"{result.scheme:<12} {result.distinct:>3} of {units} units differ after training, accuracy {result.accuracy:.4f}"
        )
    note = f"The weights of {units} hidden units, a pixel each, on {len(subset.train[1])} images of {data}, after {steps} steps."
    rows = [(result.scheme, result.distinct, len(result.after), f"{result.accuracy:.6g}") for result in results]
    return drawing.Sheet("Symmetry of hidden units", symmetry.draw_rows(results), note, {".csv": image_io.to_csv(TABLE, rows)})
