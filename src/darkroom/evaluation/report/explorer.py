"""The test images and their predictions as the data of the page's script, small enough to be embedded."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from darkroom.core import pages
from darkroom.core.errors import printable
from darkroom.data import image_rows

MOST = 10_000  # images
BUDGET, BYTES = 900_000, 12  # of all predictions, and about how many of them one prediction takes
NAMES, SHORT = 600_000, 24  # bytes of all file names, and characters left of each where they take more
COLUMNS, ROWS = 16, 16  # of a sheet
SMALL = 64  # pixels a side up to which a picture keeps its size
SIDES = ((600, 112), (1500, 80))  # numbers of pictures up to which they have that side; more have `SMALL`
QUALITY = {True: 90, False: 72}  # of WebP, by whether pictures are small: these have no detail to spare
TRIES = 4


@dataclass(frozen=True)
class Explorer:
    """The data without pictures, the indices of its images, and the order in which they get pictures."""

    content: dict[str, Any]
    images: np.ndarray
    order: list[int]

    def with_pictures(self, pixels: np.ndarray, most: int) -> tuple[dict[str, Any], list[str]]:
        """Return the data with places of pictures, and their sheets as data URIs, `most` bytes at most."""
        uris, shown = sheets(pixels, self.order, most)
        place = {image: number for number, image in enumerate(shown)}
        thumbs = [place.get(int(image), -1) for image in self.images]
        sizes = {"columns": COLUMNS, "rows": ROWS, "pictures": len(shown)}
        return {**self.content, "thumb": thumbs, **sizes}, uris


def explore(
    best: str,
    probabilities: Mapping[str, np.ndarray],
    labels: np.ndarray,
    images: Sequence[Mapping[str, str]],
    classes: Sequence[str],
    mapped: Sequence[int] | np.ndarray = (),
) -> Explorer:
    """Return images (N) with the predictions of all models (`probabilities`, (N, C) each), the best first.

    Of more than `MOST` images the `mapped` ones are taken, which the page needs, then mistakes, then as many of
    each class as there is room for, and no other models. Pictures go to mistakes first, the most confident
    ahead, then to the mistakes of other models, to the mapped images, and to the classes in turn.
    """
    labels = np.asarray(labels)
    predictions = {name: values.argmax(1) for name, values in probabilities.items()}
    wrong = predictions[best] != labels
    wrong_for_any = np.any([predicted != labels for predicted in predictions.values()], axis=0)
    confidence = np.where(wrong, -probabilities[best].max(1), 0.0)
    others = np.ones(len(labels), bool)
    others[np.asarray(mapped, int)] = False
    order = np.lexsort((turns(labels), others, confidence, ~wrong_for_any, ~wrong))
    selected = order[np.argsort(others[order], kind="stable")[:MOST]]
    chosen, order = np.sort(selected), order[np.isin(order, selected)]
    models = max(1, BUDGET // (BYTES * max(len(chosen), 1))) if len(chosen) == len(labels) else 1
    shown = [best, *(name for name in probabilities if name != best)][:models]
    paths = image_rows.column(images, "path")
    content = {
        "classes": list(classes), "of": len(labels), "labels": labels[chosen].tolist(),
        **_file_names([paths[i] for i in chosen.tolist()]),
        "models": [
            {
                "name": name, "predicted": predictions[name][chosen].tolist(),
                "confidence": _thousandths(probabilities[name].max(1)[chosen]),
                "label": _thousandths(probabilities[name][chosen, labels[chosen]]),
            }
            for name in shown
        ],
    }  # fmt: skip
    return Explorer(content, chosen, order.tolist())


def embedded(content: Any) -> str:
    """Return JSON that can be the content of a script element, whatever texts it holds."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _thousandths(probabilities: np.ndarray) -> list[int]:
    return np.rint(1000 * probabilities).astype(int).tolist()


def turns(labels: np.ndarray) -> np.ndarray:
    """Return for each image how many of its class come before it (N,)."""
    order = np.argsort(labels, kind="stable")
    _, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    turn = np.empty(len(labels), int)
    turn[order] = np.arange(len(labels)) - np.repeat(starts, counts)
    return turn


def _file_names(paths: list[str]) -> dict[str, Any]:
    """Return folders, each path's folder number, and names; shortened where they take too many bytes.

    `inexact` are the numbers of those that are not the names of their files: shortened, or with characters that
    cannot be printed.
    """
    shown = [printable(path) for path in paths]
    parts = [path.rpartition("/") for path in shown]
    folders = list(dict.fromkeys(folder for folder, _, _ in parts))
    names = [name for _, _, name in parts]
    if sum(len(name.encode()) for name in names) > NAMES:
        names = [name if len(name) <= SHORT else "…" + name[-SHORT:] for name in names]
    if sum(len(folder.encode()) for folder in folders) > NAMES // 2:  # about one folder per image
        return {"folders": [""], "folder": [0] * len(paths), "names": names, "inexact": list(range(len(paths)))}
    number = {folder: i for i, folder in enumerate(folders)}
    inexact = [i for i, path in enumerate(paths) if path != shown[i] or names[i] != parts[i][2]]
    return {"folders": folders, "folder": [number[folder] for folder, _, _ in parts], "names": names, "inexact": inexact}


def sheets(images: np.ndarray, order: Sequence[int], most: int) -> tuple[list[str], list[int]]:
    """Return sheets of images (N, S, S, 3) uint8 in this order, `most` bytes of text at most, as data URIs.

    Also returns the indices of the images on them, in their order.
    """
    size = images.shape[1]
    side = size if size <= SMALL else min(size, next((side for count, side in SIDES if len(order) <= count), SMALL))
    uris: list[str] = []
    shown: list[int] = []
    for start in range(0, len(order), COLUMNS * ROWS):
        batch = full_batch = list(order[start : start + COLUMNS * ROWS])
        uri = _sheet(images, batch, side)
        for _ in range(TRIES):  # a smaller last sheet for the bytes that are left
            if len(uri) <= most or not batch:
                break
            batch = batch[: int(len(batch) * most / len(uri) * 0.95)]
            uri = _sheet(images, batch, side) if batch else ""
        if not batch or len(uri) > most:
            break
        uris.append(uri)
        shown += batch
        most -= len(uri)
        if len(batch) < len(full_batch):
            break
    return uris, shown


def _sheet(images: np.ndarray, batch: Sequence[int], side: int) -> str:
    rows = -(-len(batch) // COLUMNS)
    sheet = np.zeros((rows * side, COLUMNS * side, 3), np.uint8)
    for place, i in enumerate(batch):
        y, x = side * (place // COLUMNS), side * (place % COLUMNS)
        pixels: Any = images[i]
        if pixels.shape[0] != side:
            pixels = cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)
        sheet[y : y + side, x : x + side] = pixels
    quality = QUALITY[images.shape[1] <= SMALL]
    _, encoded = cv2.imencode(".webp", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, quality])
    return pages.data_uri("image/webp", encoded.tobytes())
