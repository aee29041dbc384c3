"""Draw a map of images by a model's embeddings: a picture, a table and a page."""

from __future__ import annotations

from pathlib import Path

import click

from darkroom.commands.lab import image_io
from darkroom.commands.lab.options import network_options, picture_command
from darkroom.commands.param_types import MODEL_OR_ARCHITECTURE
from darkroom.config.params import SPLITS
from darkroom.core.command_line import Choice
from darkroom.core.lazy import lazy_imports

with lazy_imports():
    import numpy as np

    from darkroom.lab import drawing, embedding, networks, plots

INGESTED = Path("data/ingested")
HEADER = ("path", "class", "predicted", "error", "pca_x", "pca_y", "tsne_x", "tsne_y")


@picture_command("embedding", ".csv", ".html")
@click.argument("folder", type=click.Path(path_type=Path), default=INGESTED, metavar="[FOLDER]")
@click.option(
    "--model", default="champion", type=MODEL_OR_ARCHITECTURE, help="champion, a version, a folder, or an architecture by name"
)
@click.option("--split", type=Choice(SPLITS), show_default="val of ingested data, all of a folder", help="a split")
@click.option("--most", type=click.IntRange(min=1), default=2000, metavar="N", help="number of images, drawn evenly from all")
@click.option("--perplexity", type=click.FloatRange(0, min_open=True), default=30.0, help="number of neighbours for t-SNE")
@network_options
def command(folder: Path, inspected: networks.InspectedNetwork, split: str | None, most: int, perplexity: float) -> drawing.Sheet:
    """Draw a map of images by a model's embeddings, by PCA and t-SNE, coloured by class, with errors ringed.

    FOLDER is a folder of classes, or data/ingested, the default. A table (.csv) and a page (.html) are
    written beside the picture.
    """
    if (folder / "classes.json").is_file():
        images = image_io.read_split(folder, split or "val", inspected.size, most, inspected.description)
    else:
        preprocessing = inspected.preprocessing
        images = image_io.read_folder(folder, most, inspected.size, preprocessing.resize, preprocessing.background, split)
    embeddings, logits = embedding.embed(inspected.network, images.pixels)
    principal, variances = embedding.pca(embeddings)
    neighbours = embedding.tsne(embeddings, perplexity)
    predicted = [inspected.classes[i] for i in logits.argmax(1)] if inspected.classes else [""] * len(images.names)
    in_model = [name in inspected.classes for name in images.names]  # no prediction is right for other classes
    triples = zip(in_model, images.names, predicted, strict=True)
    wrong = np.array([has_class and name != label for has_class, name, label in triples])
    note = f"{len(images.names)} images, {embeddings.shape[1]} numbers each. "
    if any(in_model):
        note += f"Of {sum(in_model)} images of the model's classes, {int(wrong.sum())} are predicted wrongly (ringed). "
    note += "PCA preserves distances, as far as two axes can; t-SNE preserves neighbours, not distances or sizes of groups."
    maps = {
        f"PCA: {variances[0]:.0%} and {variances[1]:.0%} of the variance": principal,
        f"t-SNE, perplexity {perplexity:g}": neighbours,
    }
    rows = [
        (path, name, label, int(error), *(f"{value:.5g}" for value in (*first, *second)))
        for path, name, label, error, first, second in zip(
            images.paths, images.names, predicted, wrong, principal, neighbours, strict=True
        )
    ]
    title = f"Embeddings of {folder} by {inspected.description}"
    page = embedding.render_page(title, note, maps, images.pixels, rows)
    tile = drawing.Tile(plots.scatter(maps, images.names, wrong))
    return drawing.Sheet(title, [drawing.Row([tile])], note, {".csv": image_io.to_csv(HEADER, rows), ".html": page})
