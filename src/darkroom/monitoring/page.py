"""The page of the last check: its result, the tests, the earlier checks, and the images to look at first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from darkroom.core import pages
from darkroom.core.errors import printable
from darkroom.monitoring.history import DriftCheck
from darkroom.monitoring.prediction_log import LogRow
from darkroom.monitoring.reference import Outputs

MAX_IMAGES = 24  # in each section
MAX_CHECKS = 60
BINS = 10  # of confidence
WIDTH, HEIGHT, MARGIN = 640, 300, 14  # of a chart
TITLES = {"embeddings": "embeddings", "classes": "predicted classes", "confidence": "confidence"}
MEANINGS = {
    "embeddings": "how often a new image is told from a reference image; 50% is chance",
    "classes": "the share of the images that would need another class for both to have the same shares",
    "confidence": "drop of the mean confidence",
}


@dataclass(frozen=True)
class Images:
    """The logged predictions of the last series, and of one image of each, which is compared with the reference.

    `dissimilarity` (N,) is the distance of these from it, 0 to 1.
    """

    all: list[LogRow]
    compared: list[LogRow]
    dissimilarity: np.ndarray | None
    reference: Outputs


def render(
    check: DriftCheck, past: list[DriftCheck], images: Images, classes: Sequence[str], picture: Callable[[str], str],
    faults: Mapping[str, str],
) -> str:  # fmt: skip
    """Return a single self-contained HTML file.

    `picture` returns a data URI for the path of an image, or nothing. `faults` are the meanings of flags.
    """
    rows, reference, dissimilarity = images.compared, images.reference, images.dissimilarity

    def show(row: LogRow) -> dict[str, Any]:
        return {
            "path": printable(row.path), "label": printable(str(row.label)), "confidence": row.confidence,
            "picture": picture(row.path), "flags": [faults.get(flag, flag) for flag in row.flags or []],
        }  # fmt: skip

    order: Sequence[int] = [] if dissimilarity is None else np.argsort(-dissimilarity, kind="stable")[:MAX_IMAGES].tolist()
    unsure = sorted(rows, key=lambda row: row.confidence or 0)[:MAX_IMAGES]
    flagged = [row for row in reversed(images.all) if row.flags][:MAX_IMAGES]
    sections = (
        ("Farthest from the reference", "Label these first and add them to the data set.", [rows[i] for i in order]),
        ("Lowest confidence", "Images whose class is uncertain.", unsure),
        ("Faults of the pictures", "Retraining does not repair a lens or a cable.", flagged),
    )
    return pages.render(
        "monitoring", "monitoring.html.j2", source="drift check", check=check, titles=TITLES, meanings=MEANINGS,
        sections=[(title, note, [show(row) for row in shown]) for title, note, shown in sections if shown],
        shares=_class_shares(rows, reference, classes), bins=_confidence_bins(rows, reference), points=_map(rows, reference),
        past=_chart_past(past, check.checkpoint_sha256), width=WIDTH, height=HEIGHT, reference_count=len(reference),
        count=len(rows), images=len(images.all),
    )  # fmt: skip


def _class_shares(rows: list[LogRow], reference: Outputs, classes: Sequence[str]) -> list[tuple[str, float, float]]:
    """Return each class, its shares in the reference and in the new images, the largest change first."""
    index = {name: number for number, name in enumerate(classes)}
    before = np.bincount(reference.predicted, minlength=len(classes)) / len(reference)
    after = np.bincount([index[str(row.label)] for row in rows], minlength=len(classes)) / max(len(rows), 1)
    order = np.argsort(-np.abs(after - before), kind="stable")[:MAX_IMAGES]
    return [(printable(classes[i]), float(before[i]), float(after[i])) for i in order]


def _confidence_bins(rows: list[LogRow], reference: Outputs) -> list[tuple[str, float, float]]:
    """Return the range of each bin of confidence, and the shares of reference and new images in it."""
    edges = np.linspace(0, 1, BINS + 1)
    before = np.histogram(reference.confidence, edges)[0] / len(reference)
    after = np.histogram([row.confidence or 0.0 for row in rows], edges)[0] / max(len(rows), 1)
    used = (i for i in range(BINS) if before[i] or after[i])
    return [(f"{edges[i]:.0%} to {edges[i + 1]:.0%}", float(before[i]), float(after[i])) for i in used]


def _map(rows: list[LogRow], reference: Outputs) -> list[tuple[float, float, bool]]:
    """Return x, y and whether it is new for each image: the first two principal components of embeddings."""
    if not rows:
        return []
    embeddings = np.concatenate([reference.embeddings, np.array([row.embedding for row in rows], np.float32)]).astype(np.float64)
    embeddings -= embeddings.mean(0)
    _, _, axes = np.linalg.svd(embeddings, full_matrices=False)
    plane = np.zeros((len(embeddings), 2))
    plane[:, : len(axes[:2])] = embeddings @ axes[:2].T
    low, span = plane.min(0), np.maximum(np.ptp(plane, axis=0), 1e-12)
    points = MARGIN + (plane - low) / span * (np.array([WIDTH, HEIGHT]) - 2 * MARGIN)
    return [(round(float(x), 1), round(float(y), 1), i >= len(reference)) for i, (x, y) in enumerate(points)]


def _chart_past(past: list[DriftCheck], checkpoint: str) -> list[dict[str, Any]]:
    """Return the last checks of this model that compared something, each with its place in the chart."""
    checks = [item for item in past if item.checkpoint_sha256 == checkpoint and item.is_test][-MAX_CHECKS:]
    step = (WIDTH - 2 * MARGIN) / max(len(checks) - 1, 1)
    points = []
    for number, item in enumerate(checks):
        test = next(test for test in item.tests if test.name == "embeddings")
        points.append({
            "x": round(MARGIN + number * step, 1), "y": round(_height(test.size), 1), "limit": round(_height(test.limit), 1),
            "drifted": item.drifted, "label": f"{item.time[:16].replace('T', ' ')}: {test.size:.0%}, {item.summary}",
        })  # fmt: skip
    return points


def _height(share: float) -> float:
    return 120 - MARGIN - (min(max(share, 0.4), 1) - 0.4) / 0.6 * (120 - 2 * MARGIN)
