"""What the arrays of an .npz mean: images of other types than bytes, and labels that are no whole numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from darkroom.core import array_files
from darkroom.core.errors import SourceError
from darkroom.data.class_names import label_of

_CHUNK = 256  # images that are converted at a time
_BRIGHT = 128  # a maximum from which numbers up to 255 are grey levels of a byte, and not of another scale


def as_bytes(images: np.ndarray, name: str, path: Path, scratch: Path) -> tuple[np.ndarray, str]:
    """Return images (N, H, W) or (N, H, W, channels) as uint8, and a note where they were scaled.

    Numbers are taken for grey levels where they can only mean one thing: from 0 to 255 with a maximum of at
    least 128, or fractions from 0 to 1. Converted images are written to `scratch`. Raises SourceError for others.
    """
    if images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[3] not in (1, 3, 4):
        images = np.moveaxis(images, 1, -1)
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3, 4)) or images.dtype.kind not in "buif":
        raise SourceError(
            f"{name} of {path} is {images.dtype} of shape {images.shape}; images are (N, H, W) or (N, H, W, channels) of numbers",
            "save it with one of these shapes, for example images.reshape(-1, 28, 28), as uint8",
        )
    if images.dtype == np.uint8:
        return images, ""
    if images.dtype == bool:
        return _convert(images, 255, scratch), ""
    low, high, is_integral = _range(images)
    if low >= 0 and _BRIGHT <= high <= 255:
        return _convert(images, 1, scratch), f"{name} are {images.dtype} from {low:g} to {high:g}, taken as 0 to 255"
    if images.dtype.kind == "f" and low >= 0 and 0 < high <= 1 and (not is_integral or high == 1):
        return _convert(images, 255, scratch), f"{name} are {images.dtype} from {low:g} to {high:g}, taken as 0 to 1"
    raise SourceError(
        f"{name} of {path} is {images.dtype} with values from {low:g} to {high:g}; images are uint8, or numbers from 0 to 255 "
        "or fractions from 0 to 1",
        f"save it as bytes, for example {_remedy(low, high)}",
    )


def _range(images: np.ndarray) -> tuple[float, float, bool]:
    """Return the least and the greatest value, and whether all are whole; NaN where one is no number."""
    low, high, is_integral = np.inf, -np.inf, True
    for start in range(0, len(images), _CHUNK):
        part = images[start : start + _CHUNK]
        low, high = float(np.minimum(low, part.min())), float(np.maximum(high, part.max()))
        if low != low or high != high or not part.size:
            return float("nan"), float("nan"), False
        is_integral = is_integral and (images.dtype.kind != "f" or bool((part == np.rint(part)).all()))
    return low, high, is_integral


def _remedy(low: float, high: float) -> str:
    if low != low:
        return "np.nan_to_num(images), after a look at where the values that are no numbers come from"
    if low >= 0:
        return (
            f"(images * (255 / {high:g})).round().astype(np.uint8) if {high:g} is white"
            if high
            else "the images before they were emptied"
        )
    if low >= -1 and high <= 1:
        return "((images + 1) * 127.5).round().astype(np.uint8) if -1 is black and 1 is white"
    return "((images * std + mean) * 255).clip(0, 255).astype(np.uint8), with the mean and deviation that were subtracted"


def _convert(images: np.ndarray, factor: int, scratch: Path) -> np.ndarray:
    file = scratch / f"bytes{len(list(scratch.glob('bytes*.npy')))}.npy"
    target = array_files.create(file, np.uint8, images.shape)
    for start in range(0, len(images), _CHUNK):
        part = images[start : start + _CHUNK]
        target[start : start + _CHUNK] = np.rint(part * factor) if images.dtype.kind == "f" else part.astype(np.uint8) * factor
    return target


def label_texts(labels: np.ndarray, count: int, name: str, classes: np.ndarray | None, path: Path) -> list[str]:
    """Return the label of each image as text, empty where it has none.

    `labels` are numbers (also whole ones of a floating type, NaN for none), texts, or (count, classes) with a
    single one in each row. `classes` are names that replace numbers.
    """
    unlabelled = np.zeros(0, bool)
    if labels.ndim == 2 and labels.shape[0] == count and labels.shape[1] > 1:
        labels, unlabelled = _from_one_hot(labels, name, path)
    flat = labels.reshape(-1)
    if flat.dtype.kind == "f":
        flat, unlabelled = _to_integers(flat, name, path)
    if not unlabelled.size:
        unlabelled = np.zeros(len(flat), bool)
    if flat.dtype.kind not in "iub" or classes is None:
        texts = ["" if label is None else _text(label) for label in flat.tolist()]
        return ["" if none else text for text, none in zip(texts, unlabelled.tolist(), strict=True)]
    if classes.ndim != 1:
        raise SourceError(f"class_names of {path} has the shape {classes.shape}", "save one name per class, in a row")
    used = flat[~unlabelled].astype(np.int64)
    if len(used) and (used.min() < 0 or used.max() >= len(classes)):
        raise SourceError(f"{name} of {path} has labels that class_names does not name", "save as many names as there are labels")
    names = [_text(name) for name in classes.tolist()]
    return ["" if none else names[int(label)] for label, none in zip(flat.tolist(), unlabelled.tolist(), strict=True)]


def _from_one_hot(labels: np.ndarray, name: str, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the class (N,) of each row, and which rows have none. Raises SourceError for rows of other numbers."""
    if labels.dtype.kind not in "buif":
        raise SourceError(f"{name} of {path} has the shape {labels.shape}", "save one label per image, in a row")
    numbers = np.nan_to_num(labels.astype(float), nan=0.0)
    if not np.isin(numbers, (0, 1)).all() or (numbers.sum(axis=1) > 1).any():
        raise SourceError(
            f"{name} of {path} has the shape {labels.shape}, and its rows are not a single 1 among zeros",
            "save one label per image, for example labels.argmax(axis=1) if the greatest number of a row is its class",
        )
    return numbers.argmax(axis=1), ~numbers.any(axis=1)


def _to_integers(labels: np.ndarray, name: str, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return floating numbers as whole ones, and which are NaN. Raises SourceError where they have fractions."""
    is_finite = np.isfinite(labels)
    odd = labels[np.isinf(labels) | (is_finite & (labels != np.rint(np.where(is_finite, labels, 0))))]
    if odd.size:
        raise SourceError(
            f"{name} of {path} has {odd[0]:g}",
            "labels are whole numbers or texts: save the class of each image",
        )
    return np.where(is_finite, np.nan_to_num(labels), 0).astype(np.int64), ~is_finite


def _text(name: object) -> str:
    return label_of(name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name))
