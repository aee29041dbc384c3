"""What a model says of an image while a grey patch covers a part of it: where the class depends on, and what it becomes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from darkroom.commands.lab import image_io, network_resolver
from darkroom.core.errors import ParamsError, nearest, printable

if TYPE_CHECKING:
    import numpy as np

    from darkroom.lab import drawing

SIDE = 260  # pixels of a picture, about


def main(arguments: list[str]) -> None:
    parser = image_io.parser("occlusion", __doc__)
    network_resolver.arguments(parser)
    parser.add_argument("image", type=Path, metavar="IMAGE")
    parser.add_argument("--class", dest="label", metavar="NAME", help="the class that is watched; default: the most probable one")
    parser.add_argument("--patch", type=int, help="pixels a side of the patch; default: a fifth of the image")
    parser.add_argument("--stride", type=int, help="pixels from one place to the next; default: a third of the patch")
    given = parser.parse_args(arguments)
    image_io.check(given)
    import torch

    from darkroom.lab import drawing, occlusion

    subject = network_resolver.find(given)
    classes = named(subject)
    image = network_resolver.pixels(subject, given.image)
    patch = max(1, subject.size // 5) if given.patch is None else given.patch
    stride = max(1, patch // 3) if given.stride is None else given.stride

    def answer(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return subject.network(network_resolver.tensor(images)).softmax(1).numpy()

    plain = answer(image[None])[0]
    watched = index(classes, given.label) if given.label else int(plain.argmax())
    found = occlusion.occlude(answer, image, patch, stride)
    drops = occlusion.spread(plain[watched] - found[..., watched], subject.size, patch, stride)
    name = printable(classes[watched])
    covered = image.copy()
    middle = (subject.size - patch) // 2
    covered[middle : middle + patch, middle : middle + patch] = image.reshape(-1, 3).mean(0)
    most = max(float(abs(drops).max()), 0.01)
    tiles = [
        drawing.Tile(drawing.fitted(image, SIDE), f"{given.image.name}\n{name} {plain[watched]:.1%}"),
        drawing.Tile(drawing.fitted(covered, SIDE), f"one place of the patch, {patch}×{patch},\nevery {stride} pixels"),
        drawing.Tile(
            drawing.fitted(over(image, drops, most), SIDE),
            f"how far {name} falls when a place is covered:\ndark nothing, bright {most:.1%} on average",
        ),
        becoming(found, classes, subject.size),
    ]
    note = "Each place is covered in turn by a patch of the image's mean colour. "
    note += f"Lowest {name}: {found[..., watched].min():.1%}, highest: {found[..., watched].max():.1%}."
    image_io.write(
        given, drawing.sheet(f"{printable(subject.said)}: what it says when a patch is covered", [drawing.Row(tiles)], note)
    )


def named(subject: network_resolver.Subject) -> tuple[str, ...]:
    """Return the model's class names; raises ParamsError where its head was never trained."""
    if not subject.classes:
        raise ParamsError(
            f"{subject.said} has no classes: its head was never trained",
            "name a trained model, or give --weights FILE",
        )
    return subject.classes


def index(classes: tuple[str, ...], label: str) -> int:
    """Return the number of a class by its name."""
    if label not in classes:
        some = ", ".join(printable(name) for name in classes[:12]) + (", …" if len(classes) > 12 else "")
        raise ParamsError(f'the model knows no class "{label}"{nearest(label, classes)}', f"name one of {some}")
    return classes.index(label)


def over(image: np.ndarray, drops: np.ndarray, most: float) -> np.ndarray:
    """Return the drops as a heat map laid over the image in grey, (S, S, 3) uint8."""
    import numpy as np

    from darkroom.lab import drawing

    warm = drawing.heat(drops, most)
    faint = np.repeat(image.mean(2, keepdims=True), 3, 2)
    return (0.4 * faint + 0.6 * warm).astype(np.uint8)


def becoming(found: np.ndarray, classes: tuple[str, ...], size: int) -> drawing.Tile:
    """Return which class is the most probable for each place of the patch, in the places of its middle."""
    import cv2
    import numpy as np

    from darkroom.lab import drawing

    best = found.argmax(2)
    seen = sorted(set(best.ravel().tolist()), key=lambda number: -int((best == number).sum()))[: len(drawing.COLOURS)]
    canvas = np.full((*best.shape, 3), 128, np.uint8)
    for number, colour in zip(seen, drawing.COLOURS, strict=False):
        canvas[best == number] = colour
    side = SIDE if size > SIDE else size * max(1, round(SIDE / size))
    picture = cv2.resize(canvas, (side, side), interpolation=cv2.INTER_NEAREST)
    said = [f"{drawing.COLOUR_NAMES[i]}: {printable(classes[number]).split(',')[0][:24]}" for i, number in enumerate(seen[:4])]
    return drawing.Tile(picture, "the most probable class:\n" + "\n".join(said))
