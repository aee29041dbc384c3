"""Commands that show what a classifier responds to: covered images, maximised ones, a map of embeddings."""

from __future__ import annotations

from pathlib import Path

import click

from darkroom.commands.lab import image_io
from darkroom.commands.lab.options import image_argument, network_command, network_options, picture_command
from darkroom.commands.param_types import MODEL_OR_ARCHITECTURE
from darkroom.config.params import SPLITS
from darkroom.core.command_line import Choice
from darkroom.core.errors import ParamsError, printable
from darkroom.core.lazy import lazy_imports

with lazy_imports():
    import numpy as np

    from darkroom.evaluation import embedding_map
    from darkroom.lab import activation_maximization, drawing, embedding, networks, occlusion, plots

MAX_TARGETS = 10  # classes or channels that are maximised, if none are named
MAXIMIZED_SIDE = 200  # pixels of a maximised image, about
INGESTED = Path("data/ingested")
OCCLUDED = ("patch", "stride", "places", "changed", "lowest")
POINTS = ("path", "class", "predicted", "error", "pca_x", "pca_y", "tsne_x", "tsne_y")


@network_command("occlusion", ".csv")
@image_argument
@click.option("--class", "label", metavar="NAME", help="the class whose probability is shown", show_default="the most probable one")
@click.option("--patch", type=int, metavar="N", help="pixels a side of the patch", show_default="a fifth of the image")
@click.option("--stride", type=int, metavar="N", help="pixels from one place to the next", show_default="a third of the patch")
def occlusion_command(
    inspected: networks.InspectedNetwork, image: Path, label: str | None, patch: int | None, stride: int | None
) -> drawing.Sheet:
    """Show how predictions change while a grey patch covers a part of the image: which places the class
    depends on."""
    classes = inspected.class_names()
    pixels = image_io.read_input(image, inspected.preprocessing)
    patch = max(1, inspected.size // 5) if patch is None else patch
    stride = max(1, patch // 3) if stride is None else stride
    uncovered = inspected.probabilities(pixels[None])[0]  # without views, as in `darkroom predict`
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
    places, changed = covered[..., target].size, int((covered.argmax(-1) != uncovered.argmax()).sum())
    row = (patch, stride, places, changed, f"{covered[..., target].min():.6g}")
    texts = {".csv": image_io.to_csv(OCCLUDED, [row])}
    return drawing.Sheet(f"{inspected.description}: predictions while a patch is covered", [drawing.Row(tiles)], note, texts)


@network_command("maximize")
@click.option("--layer", metavar="NAME", help="maximise channels of this layer, by default its first ten")
@click.option("--class", "labels", multiple=True, metavar="NAME", show_default="the first ten", help="maximise this class")
@click.option(
    "--channel", "channels", multiple=True, type=int, metavar="N", help="a channel of the layer; several times for several"
)
@click.option("--parametrization", type=Choice(("fourier", "pixels")), default="fourier", help="parameters of the image")
@click.option("--steps", type=click.IntRange(min=1), default=192, metavar="N", help="steps of gradient ascent")
@click.option("--lr", type=click.FloatRange(0, 100, min_open=True, max_open=True), default=0.05, help="learning rate")
@click.option("--grey", is_flag=True, help="red, green and blue alike, for networks that were trained on grey images")
@click.option("--no-jitter", is_flag=True, help="do not shift, scale and rotate the image, to see what that prevents")
def maximize_command(
    inspected: networks.InspectedNetwork, layer: str | None, labels: tuple[str, ...], channels: tuple[int, ...],
    parametrization: str, steps: int, lr: float, grey: bool, no_jitter: bool,
) -> drawing.Sheet:  # fmt: skip
    """Show images that maximise channels of a layer, or classes, drawn by gradient ascent from noise."""
    if layer and labels:
        raise click.UsageError("--layer and --class exclude each other")
    if channels and not layer:
        raise ParamsError("--channel needs a layer", "name it: --layer NAME; `darkroom lab layers MODEL` lists them")
    inspected.network.requires_grad_(False)
    if layer:
        targets = list(channels) or activation_maximization.first_channels(inspected.network, layer, inspected.size, MAX_TARGETS)
        objective = activation_maximization.channel_objective(inspected.network, layer, targets)
        titles = [f"channel {channel}" for channel in targets]
    else:
        classes = inspected.class_names()
        targets = [inspected.class_index(label) for label in labels or classes[:MAX_TARGETS]]
        objective = activation_maximization.class_objective(inspected.network, targets)
        titles = [printable(classes[number])[:28] for number in targets]
    images, history = activation_maximization.maximize(
        objective, len(targets), inspected.size, steps, lr, parametrization, grey, not no_jitter, seed=inspected.seed
    )
    tiles = [
        drawing.Tile(drawing.fit(image, MAXIMIZED_SIDE), f"{title}\n{drawing.format_number(first)} → {drawing.format_number(last)}")
        for image, title, first, last in zip(images, titles, history[0], history[-1], strict=True)
    ]
    parameters = {
        "fourier": "a Fourier spectrum with decorrelated colours (Olah et al. 2017)",
        "pixels": "pixels, with a penalty on total variation (Mahendran and Vedaldi 2015)",
    }[parametrization]
    note = f"{steps} steps from noise at {inspected.size} pixels; the image is {parameters}"
    note += "." if no_jitter else ", shifted, scaled and rotated a little in each step."
    note += f" The numbers: {'mean of the channel' if layer else 'logit'} at the start and at the end."
    title = f"Images that maximise {layer or 'the classes'} of {inspected.description}"
    return drawing.Sheet(title, [drawing.Row(tiles)], note)


@picture_command("embedding", ".csv", ".html")
@click.argument("folder", type=click.Path(path_type=Path), default=INGESTED, metavar="[FOLDER]")
@click.option(
    "--model", default="champion", type=MODEL_OR_ARCHITECTURE, help="champion, a version, a folder, or an architecture by name"
)
@click.option("--split", type=Choice(SPLITS), show_default="val of ingested data, all of a folder", help="a split")
@click.option("--most", type=click.IntRange(min=1), default=2000, metavar="N", help="number of images, drawn evenly from all")
@click.option("--perplexity", type=click.FloatRange(0, min_open=True), default=30.0, help="number of neighbours for t-SNE")
@network_options
def embedding_command(
    folder: Path, inspected: networks.InspectedNetwork, split: str | None, most: int, perplexity: float
) -> drawing.Sheet:
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
    principal, variances = embedding_map.pca(embeddings)
    neighbours = embedding_map.tsne(embeddings, perplexity)
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
    return drawing.Sheet(title, [drawing.Row([tile])], note, {".csv": image_io.to_csv(POINTS, rows), ".html": page})
