"""What designed kernels, or your own, make of an image: `darkroom lab kernels photo.jpg --kernel "0 -1 0; -1 5 -1; 0 -1 0"`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from darkroom.commands.lab import image_io
from darkroom.core.errors import ParamsError, nearest

if TYPE_CHECKING:
    import numpy as np

    from darkroom.lab import drawing, kernels

SHOWN = 224  # pixels a side of a response, about
SHARE = 0.995  # of the responses, within the shades; what is stronger is black or white


def main(arguments: list[str]) -> None:
    parser = image_io.parser("kernels", __doc__)
    parser.add_argument("image", type=Path, metavar="IMAGE")
    parser.add_argument("--name", action="append", metavar="NAME", help="sobel, prewitt, scharr, laplacian, gabor; default: all")
    parser.add_argument(
        "--kernel", action="append", default=[], metavar="ROWS", help='your own, rows with ; between: "0 1; -1 0", or --kernel=-1,1'
    )
    parser.add_argument(
        "--kernel-file", action="append", type=Path, default=[], metavar="FILE", help="the same, a row on each line"
    )
    parser.add_argument("--size", type=int, default=480, help="pixels of the longer side that the kernels see, at most (480)")
    given = parser.parse_args(arguments)
    image_io.check(given)
    from darkroom.lab import drawing, kernels

    known = kernels.banks()
    own = [kernels.parse(text) for text in given.kernel]
    own += [kernels.parse(_text(path), str(path)) for path in given.kernel_file]
    names = given.name or ([] if own else list(known))
    for name in names:
        if name not in known:
            raise ParamsError(
                f'there is no kernel "{name}"{nearest(name, known)}', f"name one of {', '.join(known)}, or --kernel ROWS"
            )
    image = image_io.whole(given.image, given.size)
    seen = kernels.grey(image)
    shown = [known[name] for name in names]
    if own:
        titles = [f"--kernel {text}" for text in given.kernel] + [path.name for path in given.kernel_file]
        shown += [kernels.Bank(title, {"": kernel}, "", "") for title, kernel in zip(titles, own, strict=True)]
    first = [
        drawing.Tile(drawing.fitted(image, SHOWN), "the image"),
        drawing.Tile(drawing.fitted(drawing.grey(seen), SHOWN), "in grey, what the kernels see"),
    ]
    rows = [drawing.Row(first), *(row(bank, seen) for bank in shown)]
    note = f"Seen at {image.shape[1]}×{image.shape[0]} pixels, values 0 to 1. "
    note += "Mid-grey is a response of zero, brighter positive, darker negative."
    image_io.write(given, drawing.sheet(f"Kernels on {given.image.name}", rows, note))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ParamsError(f"{path} cannot be read as text: {error}", "name a file with a row of numbers on each line") from error


def row(bank: kernels.Bank, seen: np.ndarray) -> drawing.Row:
    """Return the kernels of a bank, each with its response to a grey image, and what joins them."""
    import numpy as np

    from darkroom.lab import drawing, kernels

    small = len(bank.kernels) > 2
    side = SHOWN * 2 // 3 if small else SHOWN
    responses = {label: kernels.respond(seen, kernel) for label, kernel in bank.kernels.items()}
    values = list(responses.values())
    each = [float(np.quantile(abs(item), SHARE)) for item in values]
    scales = [max(each)] * len(each) if bank.joined else each
    shown = {
        label: _shown(responses[label], kernel, side, most)
        for (label, kernel), most in zip(bank.kernels.items(), scales, strict=True)
    }
    if small:
        hues = _directions(np.ones((1, len(values))), np.arange(len(values))[None], len(values))
        grids = [drawing.fitted(drawing.numbers(kernel), side) for kernel in bank.kernels.values()]
        marked = [np.concatenate([grid, np.broadcast_to(hues[:, [i]], (7, grid.shape[1], 3))]) for i, grid in enumerate(grids)]
        tiles = [drawing.Tile(grid, label) for grid, label in zip(marked, bank.kernels, strict=True)] + list(shown.values())
    else:
        pairs = ((drawing.Tile(drawing.numbers(kernel), label), shown[label]) for label, kernel in bank.kernels.items())
        tiles = [tile for pair in pairs for tile in pair]
    if bank.joined == "length":
        joined = kernels.length(values)
        tiles.append(
            drawing.Tile(drawing.fitted(drawing.heat(joined), side), f"length of both: 0 (dark) … {drawing.figure(joined.max())}")
        )
    elif bank.joined == "strongest":
        picture = drawing.fitted(_directions(*kernels.strongest(values), len(values)), side * 2)
        tiles.append(
            drawing.Tile(picture, "the strongest of them: its colour is that under the kernel,\nits brightness how strong it is")
        )
    return drawing.Row(tiles, bank.name, bank.about)


def _shown(response: np.ndarray, kernel: np.ndarray, side: int, most: float) -> drawing.Tile:
    """Return a response and its range: around mid-grey, or from 0 to 1 where the kernel does not cancel brightness."""
    from darkroom.lab import drawing

    said = f"{drawing.figure(response.min())} … {drawing.figure(response.max())}"
    if abs(float(kernel.sum())) <= 1e-4 * float(abs(kernel).sum()):
        return drawing.Tile(drawing.fitted(drawing.signed(response, most), side), said)
    return drawing.Tile(drawing.fitted(drawing.grey(response), side), f"{said}, shown from 0 to 1")


def _directions(sizes: np.ndarray, which: np.ndarray, count: int) -> np.ndarray:
    """Return which of `count` kernels is the strongest as hues, and how strong it is as brightness, (h, w, 3) uint8."""
    import cv2
    import numpy as np

    full = np.full(sizes.shape, 255, np.uint8)
    bright = np.clip(sizes / (np.quantile(sizes, SHARE) or 1) * 255, 0, 255).astype(np.uint8)
    hue = (which * (180 // count)).astype(np.uint8)
    return cv2.cvtColor(np.stack([hue, full, bright], 2), cv2.COLOR_HSV2RGB)
