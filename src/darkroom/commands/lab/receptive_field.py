"""How much of the image each layer of a model sees: in theory, from kernels and strides, and measured, from gradients."""

from __future__ import annotations

from math import isinf
from typing import TYPE_CHECKING, Any

from darkroom.commands.lab import image_io, network_resolver

if TYPE_CHECKING:
    import numpy as np

MEASURED = 10  # layers whose gradient is measured, where none are named
SIDE = 200  # pixels of a picture, about
COUNTED = ("convolution", "pooling")


def main(arguments: list[str]) -> None:
    parser = image_io.parser("receptive-field", __doc__)
    network_resolver.arguments(parser)
    parser.add_argument("--layer", action="append", metavar="NAME", help="measure this one; several times: several")
    parser.add_argument("--images", type=int, default=4, help="random images that the gradient is averaged over (4)")
    given = parser.parse_args(arguments)
    image_io.check(given, ".csv")
    import numpy as np
    import torch

    from darkroom.lab import drawing, layers, receptive_field

    subject = network_resolver.find(given)
    subject.network.requires_grad_(False)
    known = layers.layers(subject.network)
    for name in given.layer or []:
        layers.find(subject.network, name)
    found = receptive_field.fields(subject.network, subject.size)
    shown = {
        name: item
        for name, item in found.items()
        if name in (given.layer or []) or (layers.kind(known[name]) in COUNTED and len(item[1]) == 3 and item[1][1] > 1)
    }
    names = given.layer or spaced(list(shown), MEASURED)
    noise = np.random.default_rng(0).integers(0, 256, (max(1, given.images), subject.size, subject.size, 3), np.uint8)
    gradients = {name: receptive_field.effective(subject.network, name, torch.from_numpy(noise)) for name in names}
    rows = [
        [name, type(known[name]).__name__, "×".join(map(str, shape)), number(down.step), number(down.size),
         f"{receptive_field.across(gradients[name]):.1f}" if name in gradients else ""]
        for name, ((down, _), shape) in shown.items()
    ]  # fmt: skip
    header = ["layer", "kind", "output", "stride", "receptive field", "effective"]
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(6)]
    for row in [header, *rows]:
        cells = [
            f"{cell:<{width}}" if i < 2 else f"{cell:>{width}}" for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
    tiles = []
    for name, seen in gradients.items():
        (down, _), _ = shown[name]
        picture = boxed(seen, down, shown[name][1][1] // 2)
        tiles.append(drawing.Tile(picture, f"{name}\n{number(down.size)} in theory, {receptive_field.across(seen):.0f} measured"))
    chart = drawing.Tile(curve([(row[0], shown[row[0]][0][0].size) for row in rows], gradients, subject.size))
    note = f"Images of {subject.size} pixels a side; a field in theory that is larger reaches into the padding. "
    note += "Measured: pixels whose gradient is above 4.55% of the largest, as the side of a square (Luo et al. 2016)."
    legend = "brightness is the gradient of the middle unit (square root), the frame what it sees in theory"
    board = [drawing.Row([chart], "By depth"), drawing.Row(tiles, "What the middle unit sees", legend)]
    picture = drawing.sheet(f"Receptive fields of {subject.said}", board, note)
    image_io.write(given, picture, {".csv": image_io.as_csv(header, rows)})


def spaced(names: list[str], most: int) -> list[str]:
    """Return at most so many names, evenly from the first to the last."""
    if len(names) <= most:
        return names
    return [names[round(i * (len(names) - 1) / (most - 1))] for i in range(most)]


def number(value: float) -> str:
    """Return a size as it is printed."""
    return "whole" if isinf(value) else f"{value:.0f}"


def boxed(seen: np.ndarray, side: Any, middle: int) -> np.ndarray:
    """Return gradients (S, S) as a picture with a frame around what the unit at `middle` sees in theory."""
    import cv2
    import numpy as np

    from darkroom.lab import drawing

    size = len(seen)
    scale = SIDE / size
    warm = drawing.heat(np.sqrt(seen), 1.0)
    picture = np.ascontiguousarray(cv2.resize(warm, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST))
    first = 0 if isinf(side.first) else max(0, side.first + middle * side.step)
    last = size - 1 if isinf(side.last) else min(size - 1, side.last + middle * side.step)
    corners = (round(first * scale), round((last + 1) * scale) - 1)
    cv2.rectangle(picture, (corners[0], corners[0]), (corners[1], corners[1]), (90, 220, 255), 1)
    return picture


def curve(sizes: list[tuple[str, float]], gradients: dict[str, np.ndarray], size: int) -> np.ndarray:
    """Return a chart of fields by depth: in theory and measured, with the size of the image."""
    from matplotlib.figure import Figure

    from darkroom.lab import drawing, receptive_field

    figure = Figure((10.4, 3.4), dpi=100, layout="constrained")
    axes = figure.subplots()
    axes.plot(
        range(len(sizes)), [size if isinf(value) else value for _, value in sizes], "o-", ms=3, color="#1f77b4", label="in theory"
    )
    measured = [(i, receptive_field.across(gradients[name])) for i, (name, _) in enumerate(sizes) if name in gradients]
    axes.plot([i for i, _ in measured], [value for _, value in measured], "s--", ms=5, color="#ff7f0e", label="measured")
    axes.axhline(size, color="#65656a", lw=1, ls=":", label=f"the image, {size}")
    step = max(1, len(sizes) // 26)
    axes.set_xticks(range(0, len(sizes), step), [name for name, _ in sizes][::step], rotation=50, ha="right", fontsize=8)
    axes.set_ylabel("pixels a side")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.2)
    axes.legend(frameon=False)
    return drawing.plotted(figure)
