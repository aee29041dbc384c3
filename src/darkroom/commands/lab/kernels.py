"""Show the responses of designed kernels, or your own, to an image."""

from __future__ import annotations

from pathlib import Path

import click

from darkroom.commands.lab import image_io
from darkroom.commands.lab.options import image_argument, picture_command
from darkroom.commands.param_types import Completed
from darkroom.core.errors import ParamsError, nearest
from darkroom.core.lazy import lazy_imports

with lazy_imports():
    from darkroom.lab import drawing, kernels


@picture_command("kernels")
@image_argument
@click.option(
    "--name", "names", multiple=True, metavar="NAME", type=Completed("name", lambda: kernels.banks()), show_default="all",
    help="sobel, prewitt, scharr, laplacian or gabor; several times for several",
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
def command(image: Path, names: tuple[str, ...], texts: tuple[str, ...], files: tuple[Path, ...], size: int) -> drawing.Sheet:
    """Show the responses of designed kernels, or your own, to an image.

    Example: darkroom lab kernels photo.jpg --kernel "0 -1 0; -1 5 -1; 0 -1 0"
    """
    banks = kernels.banks()
    own = [kernels.Bank(f"--kernel {text}", {"": kernels.parse(text)}) for text in texts]
    own += [kernels.Bank(path.name, {"": kernels.parse(_read_text(path), str(path))}) for path in files]
    for name in names:
        if name not in banks:
            raise ParamsError(
                f'there is no kernel "{name}"{nearest(name, banks)}', f"name one of {', '.join(banks)}, or --kernel ROWS"
            )
    chosen = [banks[name] for name in names or ([] if own else banks)]
    pixels = image_io.read_whole(image, size)
    grey = kernels.to_grey(pixels)
    tiles = [
        drawing.Tile(drawing.fit(pixels, kernels.SIDE), "the image"),
        drawing.Tile(drawing.fit(drawing.grey(grey), kernels.SIDE), "in grey, the input of the kernels"),
    ]
    rows = [drawing.Row(tiles), *(kernels.draw_row(bank, grey) for bank in [*chosen, *own])]
    note = f"The input has {pixels.shape[1]}×{pixels.shape[0]} pixels, values 0 to 1. "
    note += "Mid-grey is a response of zero, brighter positive, darker negative."
    return drawing.Sheet(f"Kernels on {image.name}", rows, note)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ParamsError(f"{path} cannot be read as text: {error}", "name a file with a row of numbers on each line") from error
