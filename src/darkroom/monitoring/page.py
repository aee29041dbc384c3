"""The page of the last check: the verdict, what it rests on, how it went before, and which images to look at first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from darkroom.core import pages
from darkroom.core.errors import printable
from darkroom.monitoring.reference import Images

SHOWN = 24  # images in each part
PAST = 60  # checks
BINS = 10  # of confidence
WIDE, HIGH, EDGE = 640, 300, 14  # of a drawing
NAMES = {"embeddings": "what the network sees", "classes": "classes that it names", "confidence": "how sure it is"}
MEANING = {
    "embeddings": "how often a new image is told from a known one; 50% is chance",
    "classes": "the share of the images that would need another class for both to have the same shares",
    "confidence": "by how much the mean confidence is lower",
}


def page(
    check: dict[str, Any], past: list[dict[str, Any]], window: list[dict[str, Any]], known: Images, unlike: np.ndarray | None,
    classes: Sequence[str], picture: Callable[[str], str], faults: dict[str, str],
) -> str:  # fmt: skip
    """Return the page: one file, no network request.

    `window` are the rows of the log that were compared with `known`, `unlike` (N,) how unlike known ones each of them is,
    `picture` gives a data URI for the path of an image or nothing, `faults` what each flag means.
    """

    def show(row: dict[str, Any]) -> dict[str, Any]:
        return {
            "path": printable(row["path"]), "label": printable(row["label"]), "confidence": row["confidence"],
            "picture": picture(row["path"]), "flags": [faults.get(flag, flag) for flag in row["flags"] or []],
        }  # fmt: skip

    odd: list[dict[str, Any]] = []
    if unlike is not None:
        odd = [window[i] for i in np.argsort(-unlike, kind="stable")[:SHOWN]]
    unsure = sorted(window, key=lambda row: row["confidence"])[:SHOWN]
    flagged = [row for row in reversed(window) if row["flags"]][:SHOWN]
    return pages.render(
        "monitoring", "monitoring.html.j2", source="images that arrived", check=check, names=NAMES, meaning=MEANING,
        parts=[(title, why, [show(row) for row in rows]) for title, why, rows in (
            ("Least like the known ones", "Label these first, and add them to the data set: they tell a new model most.", odd),
            ("Least sure", "What the model hesitates about.", unsure),
            ("Pictures with faults", "Retraining does not mend a lens or a cable.", flagged),
        ) if rows],
        shares=_shares(window, known, classes), bins=_bins(window, known), points=_map(window, known),
        past=_past(past, check["checkpoint_sha256"]), wide=WIDE, high=HIGH, known_count=len(known), window_count=len(window),
    )  # fmt: skip


def _shares(window: list[dict[str, Any]], known: Images, classes: Sequence[str]) -> list[tuple[str, float, float]]:
    """Return name, share among the known and share among the new of each class, those that moved most first."""
    where = {name: number for number, name in enumerate(classes)}
    before = np.bincount(known.predicted, minlength=len(classes)) / len(known)
    now = np.bincount([where[row["label"]] for row in window], minlength=len(classes)) / max(len(window), 1)
    order = np.argsort(-np.abs(now - before), kind="stable")[:SHOWN]
    return [(printable(classes[i]), float(before[i]), float(now[i])) for i in order]


def _bins(window: list[dict[str, Any]], known: Images) -> list[tuple[str, float, float]]:
    """Return the shares of images in each range of confidence."""
    edges = np.linspace(0, 1, BINS + 1)
    before = np.histogram(known.confidence, edges)[0] / len(known)
    now = np.histogram([row["confidence"] for row in window], edges)[0] / max(len(window), 1)
    return [(f"{edges[i]:.0%} to {edges[i + 1]:.0%}", float(before[i]), float(now[i])) for i in range(BINS) if before[i] or now[i]]


def _map(window: list[dict[str, Any]], known: Images) -> list[tuple[float, float, bool]]:
    """Return x, y and whether it is new for every image, on the two directions in which the embeddings vary most."""
    if not window:
        return []
    both = np.concatenate([known.embeddings, np.array([row["embedding"] for row in window], np.float32)]).astype(np.float64)
    both -= both.mean(0)
    _, _, axes = np.linalg.svd(both, full_matrices=False)
    flat = np.zeros((len(both), 2))
    flat[:, : len(axes[:2])] = both @ axes[:2].T
    low, span = flat.min(0), np.maximum(np.ptp(flat, axis=0), 1e-12)
    placed = EDGE + (flat - low) / span * (np.array([WIDE, HIGH]) - 2 * EDGE)
    return [(round(float(x), 1), round(float(y), 1), i >= len(known)) for i, (x, y) in enumerate(placed)]


def _past(past: list[dict[str, Any]], checkpoint: str) -> list[dict[str, Any]]:
    """Return the last checks of this model that compared something, each with its place in the drawing."""
    checks = [item for item in past if item["checkpoint_sha256"] == checkpoint and item["tests"]][-PAST:]
    step = (WIDE - 2 * EDGE) / max(len(checks) - 1, 1)
    drawn = []
    for number, item in enumerate(checks):
        test = next(test for test in item["tests"] if test["name"] == "embeddings")
        drawn.append({
            "x": round(EDGE + number * step, 1), "y": round(_height(test["size"]), 1), "limit": round(_height(test["limit"]), 1),
            "drifted": item["drifted"], "words": f"{item['time'][:16].replace('T', ' ')}: {test['size']:.0%}, {item['words']}",
        })  # fmt: skip
    return drawn


def _height(share: float) -> float:
    return 120 - EDGE - (min(max(share, 0.4), 1) - 0.4) / 0.6 * (120 - 2 * EDGE)
