"""The images of a study: training images by class, and held-out ones with what a network predicts for them, its most confident
mistakes included.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from darkroom.lab import class_images, drawing
from darkroom.studies.run_config import RunResult
from darkroom.studies.samples import Sample

SIDE, COLUMNS = 80, 11  # pixels of an image, images of a line
SHOWN = 2 * COLUMNS  # of each row
FRAME = 3
OF_A_CLASS = 8  # training images


def draw_images(data: str, sample: Sample) -> bytes:
    """Return a PNG of training images by class, with the mean of each class."""
    rows = class_images.draw_rows((sample.train_images, sample.train_labels), sample.class_names, OF_A_CLASS)
    sides = f"{sample.train_images.shape[-1]} pixels a side"
    return _png(drawing.Sheet("Training images by class", rows, f"{data}, {sides}; framed: the mean of the class"))


def draw_gallery(title: str, sample: Sample, result: RunResult) -> bytes:
    """Return a PNG of held-out images with their predictions, wrong ones framed in red."""
    probabilities = np.asarray(next(iter(result.probabilities.values())))
    predicted, labels = probabilities.argmax(1), sample.val_labels
    wrong = np.flatnonzero(predicted != labels)
    confident = wrong[np.argsort(-probabilities[wrong, predicted[wrong]], kind="stable")][:SHOWN]
    some = np.random.default_rng(0).permutation(len(labels))[:SHOWN]

    def tile(index: int) -> drawing.Tile:
        name, truth = sample.class_names[predicted[index]], sample.class_names[labels[index]]
        is_wrong = predicted[index] != labels[index]
        pixels = _framed(sample.val_images[index], drawing.COLOURS["red" if is_wrong else "grey"])
        return drawing.Tile(pixels, f"{name} {probabilities[index].max():.0%}\n{'is ' + truth if is_wrong else ''}")

    rows = [
        drawing.Row([tile(i) for i in some], "Some held-out images", f"{result.accuracy:.1%} of {len(labels):,} are correct"),
        drawing.Row([tile(i) for i in confident], "The most confident mistakes", f"of {len(wrong):,}"),
    ]
    sheet = drawing.Sheet(title, [row for row in rows if row.tiles], "the prediction with its probability")
    return _png(sheet)


def _png(sheet: drawing.Sheet) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(drawing.draw(sheet)).save(stream, format="PNG", optimize=True)
    return stream.getvalue()


def _framed(image: np.ndarray, colour: tuple[int, ...]) -> np.ndarray:
    """Return an image (C, S, S) as RGB of about `SIDE` pixels in a frame."""
    pixels = drawing.fit(np.repeat(image, 3, 0).transpose(1, 2, 0) if len(image) == 1 else image.transpose(1, 2, 0), SIDE)
    framed = np.tile(np.array(colour, np.uint8), (*(side + 2 * FRAME for side in pixels.shape[:2]), 1))
    framed[FRAME:-FRAME, FRAME:-FRAME] = pixels
    return framed
