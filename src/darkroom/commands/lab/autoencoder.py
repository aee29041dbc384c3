"""Autoencoders, linear and convolutional, against PCA: what a short code keeps of images, and which images it keeps badly."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darkroom.commands.lab import image_io
from darkroom.core.errors import ParamsError

if TYPE_CHECKING:
    import numpy as np

    from darkroom.data.subsets import Subset
    from darkroom.lab.autoencoder import Pixels
    from darkroom.models.architectures.autoencoder import Autoencoder

SHOWN, TILE = 10, 84
KINDS = {"linear": "autoencoder_linear", "convolutional": "autoencoder_conv"}
SCORES = ".scores.csv"


def main(arguments: list[str]) -> None:
    parser = image_io.parser("autoencoder", __doc__)
    parser.add_argument("--data", default="glyphs", help="a named data set (glyphs), a folder of classes, an archive, an .npz")
    parser.add_argument(
        "--source", default="download", help="where named data sets are had from: download, or a folder with their files"
    )
    parser.add_argument("--size", type=int, default=28, help="pixels a side (28); images are grey")
    parser.add_argument("--images", type=int, default=2000, help="to train on, at most (2000)")
    parser.add_argument("--codes", type=int, nargs="+", default=[8, 32, 64], help="numbers in a code (8 32 64)")
    parser.add_argument("--epochs", type=int, default=150, help="of the linear ones (150)")
    parser.add_argument("--conv_epochs", "--conv-epochs", type=int, default=30, help="of the convolutional ones (30); 0: none")
    parser.add_argument("--seed", type=int, default=0, help="draws the weights and the order of images (0)")
    parser.add_argument("--outliers", type=Path, metavar="FOLDER", help="score the images of this folder by their error")
    given = parser.parse_args(arguments)
    if min([given.size - 7, given.images, *given.codes, given.epochs, given.conv_epochs + 1, given.seed + 1]) < 1:
        raise ParamsError("sizes, images, codes and epochs are positive numbers", "the defaults are 28, 2000, 8 32 64, 150 and 30")
    image_io.check(given, ".csv", *([SCORES] if given.outliers else []))
    import torch

    from darkroom.data.subsets import Wanted, subset
    from darkroom.lab import autoencoder, drawing

    torch.set_num_threads(1)  # products this small lose by being shared, and one thread repeats bit by bit
    data = subset(Wanted(given.data, given.size, 1, given.images, 0.2, given.source))
    pixels = autoencoder.pixels(data.train[0], data.held[0])
    best = autoencoder.principal(pixels.train, pixels.held, given.codes)
    lengths = {"linear": given.epochs, "convolutional": given.conv_epochs}
    models = {
        (kind, code): autoencoder.train(KINDS[kind], pixels.train, code, epochs, given.seed)
        for kind, epochs in lengths.items() if epochs for code in given.codes
    }  # fmt: skip
    rows = [("pca", code, *found, 1.0, 1.0) for code, found in best.items()]
    for (kind, code), model in models.items():
        made = [float(autoencoder.errors(model, images).mean()) for images in (pixels.train, pixels.held)]
        rows.append((kind, code, *made, *(one / other for one, other in zip(made, best[code], strict=True))))
    header = ("kind", "code", "train_error", "held_error", "train_ratio", "held_ratio")
    for kind, code, _, error, ratio, held_ratio in rows:
        print(f"{kind:<14} code {code:>4}  error {error:.4f} of the variance  {ratio:.3f} × PCA's, held out {held_ratio:.3f} ×")
    beside = {".csv": image_io.as_csv(header, [(*row[:2], *(f"{value:.6g}" for value in row[2:])) for row in rows])}
    if given.outliers:
        beside[SCORES] = scored(given, models, pixels)
    linear = [row for row in rows if row[0] == "linear"]
    worst = max(linear, key=lambda row: row[4])
    note = (
        f"{len(pixels.train)} images to train on, {len(pixels.held)} held out, of {given.data}. From random weights the linear "
        f"autoencoder comes within {max(worst[4] - 1, 0):.1%} of PCA's error at every code (worst at {worst[1]})."
    )
    print(note)
    image_io.write(
        given, drawing.sheet("Autoencoders against principal components", sheet(data, models, pixels, best), note), beside
    )


def sheet(data: Subset, models: dict[Any, Autoencoder], pixels: Pixels, best: dict[int, tuple[float, float]]) -> list[Any]:
    """Return rows of held-out images as they come out of each code, and the codes of two models as scatters."""
    import numpy as np
    import torch

    from darkroom.commands.lab.embedding import charted
    from darkroom.lab import autoencoder, drawing, embedding

    def tiles(images: np.ndarray) -> list[drawing.Tile]:
        return [drawing.Tile(drawing.fitted(np.repeat(image[0][..., None], 3, 2), TILE)) for image in images]

    chosen = np.linspace(0, len(data.held[0]) - 1, min(SHOWN, len(data.held[0]))).round().astype(int)  # of all classes
    made = [drawing.Row(tiles(data.held[0][chosen]), "held-out images")]
    for (kind, code), model in models.items():
        with torch.inference_mode():
            shown = pixels.shown(model(pixels.held[torch.from_numpy(chosen)]))
        error = float(autoencoder.errors(model, pixels.held).mean())
        made.append(
            drawing.Row(tiles(shown), f"{kind}, code of {code}", f"{error:.1%} of the variance is lost; PCA {best[code][1]:.1%}")
        )
    largest = max(best)
    names = [data.classes[i] for i in data.held[1]]
    few = sorted(set(names))[:10]
    kept = np.array([name in few for name in names])
    maps = {}
    for kind in ("linear", "convolutional"):
        if (kind, largest) in models:
            points, _ = embedding.pca(autoencoder.codes(models[kind, largest], pixels.held))
            maps[f"{kind}: codes of {largest}, two widest axes"] = points[kept]
    if len(maps) == 2:
        labels = [name for name, there in zip(names, kept, strict=True) if there]
        made.append(drawing.Row([drawing.Tile(charted(maps, labels, np.zeros(len(labels), bool)))], "codes"))
    return made


def scored(given: Any, models: dict[Any, Autoencoder], pixels: Pixels) -> str:
    """Return the images of a folder with their errors as CSV, the worst by the last model first, and print ten of them."""
    from darkroom.commands.lab.embedding import read
    from darkroom.lab import autoencoder

    asked = Namespace(folder=given.outliers, split=None, most=100_000)
    wanted = Namespace(preprocessing=Namespace(image_size=given.size, resize="crop", background=(0, 0, 0)))
    images, names, paths = read(asked, wanted)  # type: ignore[arg-type]
    grey = pixels.given(images.mean(3).round().astype("uint8")[:, None])
    largest = max(given.codes)
    chosen = {kind: model for (kind, code), model in models.items() if code == largest}
    found = {kind: autoencoder.errors(model, grey) for kind, model in chosen.items()}
    order = list(found.values())[-1].argsort()[::-1]
    rows = [(paths[i], names[i], *(f"{values[i]:.6g}" for values in found.values())) for i in order]
    for row in rows[:10]:
        print(f"outlier  {float(row[-1]):.3f}  {row[0]}")
    return image_io.as_csv(("path", "class", *found), rows)
