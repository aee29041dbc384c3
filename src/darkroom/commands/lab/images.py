"""Commands that show what is done to an image: the responses of kernels, the transforms of a policy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from darkroom.commands.lab import image_io
from darkroom.commands.lab.options import image_argument, picture_command
from darkroom.commands.param_types import POLICY, Completed
from darkroom.core.errors import ParamsError, nearest
from darkroom.core.lazy import lazy_imports

with lazy_imports():
    from darkroom.augmentation import policies, views
    from darkroom.config import params
    from darkroom.lab import augmentation_strength, drawing, kernel_steps, kernels, pooling

STRENGTHS, SIDE = 7, 128  # pictures of each transform, and pixels a side of each, about
STEPS = ("colour", "corners")  # rows of the sheet of kernels that are more than a kernel


@picture_command("kernels")
@image_argument
@click.option(
    "--name", "names", multiple=True, metavar="NAME", type=Completed("name", lambda: [*kernels.banks(), *STEPS]),
    show_default="all",
    help="sobel, prewitt, scharr, laplacian, gabor, colour or corners; several times for several",
)  # fmt: skip
@click.option(
    "--kernel", "texts", multiple=True, metavar="ROWS",
    help='your own kernel, its rows separated by ";": "0 1; -1 0", or --kernel=-1,1',
)  # fmt: skip
@click.option(
    "--kernel-file", "files", multiple=True, type=click.Path(path_type=Path), metavar="FILE",
    help="your own kernel from a file with a row on each line",
)  # fmt: skip
@click.option("--size", type=click.IntRange(min=1), default=480, metavar="N", help="maximum pixels of the longer side")
def kernels_command(
    image: Path, names: tuple[str, ...], texts: tuple[str, ...], files: tuple[Path, ...], size: int
) -> drawing.Sheet:
    """Show the responses of designed kernels, or your own, to an image, with the code that computed them; its
    colour channels, and its corners.

    IMAGE is a file, or one of two photographs that come with scikit-learn: flower, china.

    Example: darkroom lab kernels flower --kernel "0 -1 0; -1 5 -1; 0 -1 0"
    """
    banks = kernels.banks()
    own = [kernels.Bank(f"--kernel {text}", {"": kernels.parse(text)}) for text in texts]
    own += [kernels.Bank(path.name, {"": kernels.parse(_read_text(path), str(path))}) for path in files]
    for name in names:
        if name not in (known := [*banks, *STEPS]):
            raise ParamsError(
                f'there is no kernel "{name}"{nearest(name, known)}', f"name one of {', '.join(known)}, or --kernel ROWS"
            )
    chosen = names or ([] if own else [STEPS[0], *banks, *STEPS[1:]])
    pixels = image_io.read_whole(image, size)
    grey = kernels.to_grey(pixels)
    tiles = [
        drawing.Tile(drawing.fit(pixels, kernels.SIDE), "the image"),
        drawing.Tile(drawing.fit(drawing.grey(grey), kernels.SIDE), "in grey, the input of the kernels"),
    ]
    steps = {"colour": lambda: kernel_steps.draw_colour(pixels), "corners": lambda: kernel_steps.draw_corners(pixels, grey)}
    rows = [drawing.Row([*tiles, kernel_steps.code_tile(kernels.to_grey, kernels.respond)])]
    rows += [steps[name]() if name in steps else _with_code(kernels.draw_row(banks[name], grey), banks[name]) for name in chosen]
    rows += [kernel_steps.draw_own(bank, grey) for bank in own]
    note = f"The input has {pixels.shape[1]}×{pixels.shape[0]} pixels, values 0 to 1. "
    note += "Mid-grey is a response of zero, brighter positive, darker negative."
    return drawing.Sheet(f"Kernels on {image.name}", rows, note)


def _with_code(row: drawing.Row, bank: kernels.Bank) -> drawing.Row:
    """Return a row with the function that combines its responses, if one does."""
    functions = {"length": kernels.length, "strongest": kernels.strongest}
    code = [kernel_steps.code_tile(functions[bank.combination])] if bank.combination else []
    return replace(row, tiles=[*row.tiles, *code])


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ParamsError(f"{path} cannot be read as text: {error}", "name a file with a row of numbers on each line") from error


@picture_command("pooling")
@image_argument
@click.option("--size", type=click.IntRange(min=1), default=64, metavar="N", help="maximum pixels of the longer side of the map")
def pooling_command(image: Path, size: int) -> drawing.Sheet:
    """Show what stride, padding, max and average pooling do to a map, with the formula of the output's size.

    The map is the image in grey, and the response of a Sobel kernel to it. IMAGE is a file, or one of two photographs that come
    with scikit-learn: flower, china.
    """
    rows = pooling.draw(kernels.to_grey(image_io.read_whole(image, size)))
    note = "A response of zero is mid-grey, brighter positive, darker negative. All maps are drawn at one size, so that a pixel of "
    return drawing.Sheet(f"Stride, padding and pooling of {image.name}", rows, note + "a smaller map is larger.")


@picture_command("augmentations")
@image_argument
@click.option(
    "--policy", "policy_name", type=POLICY, metavar="NAME", show_default="that of params.yaml", help="an augmentation policy"
)
@click.option(
    "--size", "requested_size", type=click.IntRange(8, 1024), metavar="N", show_default="ingest.image_size of params.yaml",
    help="pixels a side of the image",
)  # fmt: skip
@click.option("--views", "count", type=click.IntRange(min=0), default=14, metavar="N", help="number of whole views")
@click.option("--seed", type=int, default=0, metavar="N", help="seed of the draws")
def augmentations_command(image: Path, policy_name: str | None, requested_size: int | None, count: int, seed: int) -> drawing.Sheet:
    """Show the transforms of an augmentation policy on an image, one by one from weak to strong, and whole
    views.

    IMAGE is a file, or one of two photographs that come with scikit-learn: flower, china.
    """
    policy, size, resize, background = "standard", 160, "crop", (0, 0, 0)
    if Path("params.yaml").is_file():
        settings = params.read()
        policy, size = settings.augment.policy, settings.ingest.image_size
        resize, background = settings.ingest.resize, settings.ingest.background
    policy, size = policy_name or policy, requested_size or size
    if policy not in policies.POLICIES:
        problem = f'there is no policy "{policy}"{nearest(policy, policies.POLICIES)}'
        raise ParamsError(problem, f"name one of {', '.join(policies.POLICIES)}")
    pixels = image_io.decode_file(image, size, resize, background)[0]
    rows = [drawing.Row([drawing.Tile(drawing.fit(pixels, SIDE), f"{image.name}, {size}×{size}")])]
    for transform in policies.POLICIES[policy](size):
        ranges = augmentation_strength.describe(transform)  # before its probability becomes 1
        steps = augmentation_strength.ladder(pixels, augmentation_strength.drawer(transform, pixels, seed), STRENGTHS)
        if steps[0][1] == steps[-1][1]:  # a transform without strength, such as a mirror
            steps = steps[:1]
        tiles = [drawing.Tile(drawing.fit(item, SIDE), f"changes by {change:.0f}") for item, change in steps]
        rows.append(drawing.Row(tiles, type(transform).__name__, ranges))
    generated = views.ViewGenerator(policy, size, seed).views(pixels, range(count))
    tiles = [drawing.Tile(drawing.fit(view, SIDE), f"view {i}") for i, view in enumerate(generated)]
    rows.append(drawing.Row(tiles, "Whole views", "all transforms in a row, as in training"))
    summary = (policies.POLICIES[policy].__doc__ or "").split("\n")[0]
    note = f"{summary} Each transform alone, always applied, from the weakest to the strongest of 64 draws of its ranges. "
    note += "The number is the root mean square of the difference from the image, of 255."
    return drawing.Sheet(f"The policy {policy} on {image.name}", rows, note)
