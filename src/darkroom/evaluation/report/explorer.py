"""The test images and what models said of them, small enough to travel within a page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from darkroom.core.errors import printable
from darkroom.evaluation.report import sprites

MOST = 10_000  # images
ROOM = 900_000  # bytes for what models say, which takes some PER of each image and model
PER = 12
NAMES, SHORT = 600_000, 24  # bytes for the names of files, and how much of each is kept where they take more


@dataclass(frozen=True)
class Explorer:
    """What the page's script gets: `content` as JSON without the pictures, and which images, in which order, may have one."""

    content: dict[str, Any]
    chosen: np.ndarray
    order: list[int]

    def bytes(self) -> int:
        """Return how many bytes it takes, with the places of pictures."""
        return len(embedded(self.content)) + 7 * len(self.chosen)

    def with_pictures(self, pixels: np.ndarray, most: int) -> tuple[dict[str, Any], sprites.Sheets]:
        """Return the content with the places of pictures, and the sheets that hold them, `most` bytes at most."""
        made = sprites.sheets(pixels, self.order, most)
        place = {image: at for at, image in enumerate(made.held)}
        thumbs = [place.get(int(image), -1) for image in self.chosen]
        return {**self.content, "thumb": thumbs, "columns": sprites.COLUMNS, "rows": sprites.ROWS, "held": len(made.held)}, made


def explore(
    best: str,
    answers: Mapping[str, np.ndarray],
    labels: np.ndarray,
    images: Sequence[Mapping[str, str]],
    classes: Sequence[str],
) -> Explorer:
    """Return the images (N) with what models (`answers`, (N, C) each) say of them, the best first.

    Of more than `MOST` images its mistakes come first, then as many of each class as there is room for, and no other models.
    Pictures go to mistakes first too, the surest ahead, then to the mistakes of other models, then to the classes in turn.
    """
    labels = np.asarray(labels)
    said = {name: given.argmax(1) for name, given in answers.items()}
    sure = answers[best].max(1)
    wrong = said[best] != labels
    others = np.any([predicted != labels for predicted in said.values()], axis=0)
    turn = _turns(labels)
    order = np.lexsort((turn, np.where(wrong, -sure, 0.0), ~others, ~wrong))
    chosen = np.sort(order[:MOST])
    whole = len(chosen) == len(labels)
    room = max(1, ROOM // (PER * max(len(chosen), 1))) if whole else 1
    shown = [best, *(name for name in answers if name != best)][:room]
    folders, names = _named([printable(images[i]["path"]) for i in chosen.tolist()])
    content = {
        "classes": list(classes), "of": len(labels), "labels": labels[chosen].tolist(), **folders, "names": names,
        "models": [
            {
                "name": name, "said": said[name][chosen].tolist(),
                "sure": np.rint(1000 * answers[name].max(1)[chosen]).astype(int).tolist(),
                "given": np.rint(1000 * answers[name][chosen, labels[chosen]]).astype(int).tolist(),
            }
            for name in shown
        ],
    }  # fmt: skip
    return Explorer(content, chosen, order[:MOST].tolist())


def embedded(content: Any) -> str:
    """Return JSON that can stand in a script element whatever its texts are."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _turns(labels: np.ndarray) -> np.ndarray:
    """Return for each image how many of its class come before it (N,)."""
    turn = np.zeros(len(labels), int)
    for label in np.unique(labels):
        (own,) = np.nonzero(labels == label)
        turn[own] = np.arange(len(own))
    return turn


def _named(paths: list[str]) -> tuple[dict[str, Any], list[str]]:
    """Return the folders and, for each path, the number of its folder; and its name, its end alone where names take too much."""
    parts = [path.rpartition("/") for path in paths]
    folders = list(dict.fromkeys(folder for folder, _, _ in parts))
    names = [name for _, _, name in parts]
    if sum(len(name.encode()) for name in names) > NAMES:
        names = [name if len(name) <= SHORT else "…" + name[-SHORT:] for name in names]
    if sum(len(folder.encode()) for folder in folders) > NAMES // 2:  # a folder an image
        folders, where = [""], [0] * len(paths)
    else:
        number = {folder: i for i, folder in enumerate(folders)}
        where = [number[folder] for folder, _, _ in parts]
    return {"folders": folders, "folder": where}, names
