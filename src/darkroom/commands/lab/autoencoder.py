"""Compare autoencoders with PCA, and score the images of a folder by their reconstruction error."""

from __future__ import annotations

from pathlib import Path

import click

from darkroom.commands.lab import image_io
from darkroom.commands.lab.options import picture_command
from darkroom.commands.param_types import DATASET
from darkroom.core.command_line import Many
from darkroom.core.lazy import lazy_imports

with lazy_imports():
    import torch

    from darkroom.config import package_files, study_params
    from darkroom.data import subsets
    from darkroom.lab import autoencoder, drawing
    from darkroom.models.architectures import autoencoder as networks

ARCHITECTURES = {"linear": "autoencoder_linear", "convolutional": "autoencoder_conv"}
CODES = (8, 32, 64)
SCORES = ".scores.csv"
HEADER = ("kind", "code", "train_error", "held_error", "train_ratio", "held_ratio")
AT_LEAST_1 = click.IntRange(min=1)


def _take_defaults(ctx: click.Context, _: click.Parameter, path: Path | None) -> None:
    if path:
        ctx.default_map = study_params.read(package_files.find(path)).autoencoder.model_dump()


@picture_command("autoencoder", ".csv", outliers=SCORES)
@click.option(
    "--params", type=click.Path(path_type=Path), metavar="FILE", is_eager=True, expose_value=False, callback=_take_defaults,
    help="take the other options from the section `autoencoder` of this file, such as studies/params.yaml",
)  # fmt: skip
@click.option("--data", default="glyphs", type=DATASET, help="a named data set, a folder of classes, an archive, an .npz")
@click.option("--source", default="download", help="source of named data sets: download, or a folder with their files")
@click.option("--size", type=click.IntRange(min=8), default=28, metavar="N", help="pixels a side; images are grey")
@click.option("--images", type=AT_LEAST_1, default=2000, metavar="N", help="maximum number of training images")
@click.option("--codes", cls=Many, type=AT_LEAST_1, default=CODES, metavar="N …", help="numbers in a code")
@click.option("--epochs", type=AT_LEAST_1, default=150, metavar="N", help="epochs of linear autoencoders")
@click.option(
    "--conv-epochs", "--conv_epochs", type=click.IntRange(min=0), default=30, metavar="N",
    help="epochs of convolutional autoencoders; 0 trains none",
)  # fmt: skip
@click.option(
    "--noise", type=click.FloatRange(min=0), default=1.0, metavar="X",
    help="deviation of the noise that a denoising autoencoder removes, in units of the images'; 0 trains none",
)  # fmt: skip
@click.option("--no-relu", is_flag=True, help="convolutional autoencoders without ReLU, which are linear, to see what it does")
@click.option("--seed", type=click.IntRange(min=0), default=0, metavar="N", help="seed of the weights and of the order of images")
@click.option(
    "--outliers", type=click.Path(path_type=Path), metavar="FOLDER", help="score the images of this folder by their error"
)
def autoencoder_command(
    data: str, source: str, size: int, images: int, codes: tuple[int, ...], epochs: int, conv_epochs: int, noise: float,
    seed: int, outliers: Path | None, no_relu: bool,
) -> drawing.Sheet:  # fmt: skip
    """Compare linear and convolutional autoencoders with PCA: how much of images a short code preserves.

    A table (.csv) is written beside the picture; with --outliers another one (.scores.csv), the largest
    errors first.
    """
    torch.set_num_threads(1)  # matrix products of this size are slower on several threads; one repeats bit by bit
    subset = subsets.load_subset(subsets.SubsetOptions(data, size, 1, images, 0.2, source))
    standardized = autoencoder.standardize(subset.train[0], subset.held_out[0])
    pca = autoencoder.pca_errors(standardized.train, standardized.held_out, codes)
    options = {"linear": {}, "convolutional": {"relu": False} if no_relu else {}}
    models = {
        (kind, code): autoencoder.train(ARCHITECTURES[kind], standardized.train, code, count, seed, **options[kind])
        for kind, count in {"linear": epochs, "convolutional": conv_epochs}.items() if count for code in codes
    }  # fmt: skip
    longest, denoised = max(codes), None
    if conv_epochs and noise:
        noisy = (longest, conv_epochs, seed, noise)
        denoising = autoencoder.train(ARCHITECTURES["convolutional"], standardized.train, *noisy, **options["convolutional"])
        denoised = autoencoder.denoise(standardized, models["convolutional", longest], denoising, longest, noise)
    rows = [("pca", code, *errors, 1.0, 1.0) for code, errors in pca.items()]
    for (kind, code), model in models.items():
        train, held_out = (float(autoencoder.errors(model, x).mean()) for x in (standardized.train, standardized.held_out))
        rows.append((kind, code, train, held_out, train / pca[code][0], held_out / pca[code][1]))
    for kind, code, _, error, ratio, held_out_ratio in rows:
        click.echo(
            f"{kind:<14} code {code:>4}  error {error:.4f} of the variance  {ratio:.3f} × PCA's, held out {held_out_ratio:.3f} ×"
        )
    texts = {".csv": image_io.to_csv(HEADER, [(*row[:2], *(f"{value:.6g}" for value in row[2:])) for row in rows])}
    if outliers:
        largest = {kind: model for (kind, code), model in models.items() if code == longest}
        texts[SCORES] = _score(outliers, size, largest, standardized)
    worst = max((row for row in rows if row[0] == "linear"), key=lambda row: row[4])
    note = (
        f"{len(standardized.train)} training images and {len(standardized.held_out)} held-out images of {data}. From random "
        f"weights the linear autoencoder comes within {max(worst[4] - 1, 0):.1%} of PCA's error at every code "
        f"(worst at {worst[1]})."
    )
    if denoised:
        note += f" Noise of deviation {noise:g}, error of held-out images: "
        note += ", ".join(f"{name} {error:.4f}" for name, error in denoised.errors.items()) + "."
    click.echo(note)
    rows_of_images = autoencoder.draw_rows(subset, models, standardized, pca, denoised)
    return drawing.Sheet("Autoencoders against principal components", rows_of_images, note, texts)


def _score(folder: Path, size: int, models: dict[str, networks.Autoencoder], standardized: autoencoder.StandardizedImages) -> str:
    """Print the ten images of a folder with the largest errors; return all as CSV, the largest first."""
    images = image_io.read_folder(folder, 100_000, size)
    grey = standardized.standardize(images.pixels.mean(3).round().astype("uint8")[:, None])
    errors = {kind: autoencoder.errors(model, grey) for kind, model in models.items()}
    order = list(errors.values())[-1].argsort()[::-1]
    rows = [(images.paths[i], images.names[i], *(f"{values[i]:.6g}" for values in errors.values())) for i in order]
    for row in rows[:10]:
        click.echo(f"outlier  {float(row[-1]):.3f}  {row[0]}")
    return image_io.to_csv(("path", "class", *errors), rows)
