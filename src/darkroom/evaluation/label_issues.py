"""Labels that may be wrong, by confident learning (Northcutt et al. 2021) on out-of-fold predictions."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
from threadpoolctl import threadpool_limits

from darkroom.core import atomic
from darkroom.evaluation.metrics import losses
from darkroom.evaluation.pixel_baseline import Regression

FOLDS = 5
MOST_FITTED = 5_000  # images that the regression of a fold is fitted on, at most
MOST_TUNED = 1_000  # images on which each of `STRENGTHS` is tried, at most
STRENGTHS = (0.001, 0.01, 0.1)  # of the likelihood against the penalty
FITS = len(STRENGTHS) + FOLDS
TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class LabelIssue:
    """An image whose label may be wrong, the suggested class, its probability, and that of the label."""

    path: str
    sha256: str
    split: str
    label: str
    suggested: str
    confidence: float
    quality: float


def folds(labels: np.ndarray, groups: Sequence[str]) -> np.ndarray:
    """Return each image's fold (N,): groups stay together, those of a class are dealt to the folds in turn.

    A group has the class of most of its images.
    """
    members: dict[str, list[int]] = {}
    for group, label in zip(groups, labels.tolist(), strict=True):
        members.setdefault(group, []).append(label)
    classes = {group: min(set(own), key=lambda label: (-own.count(label), label)) for group, own in members.items()}
    ordered = sorted(classes, key=lambda group: (classes[group], group))
    place = {group: i % FOLDS for i, group in enumerate(ordered)}
    return np.array([place[group] for group in groups], int)


def out_of_fold(
    inputs: np.ndarray,
    labels: np.ndarray,
    groups: Sequence[str],
    classes: int,
    seed: int,
    advance: Callable[[int], None] = lambda fits: None,
) -> tuple[float, np.ndarray]:
    """Return `c`, and probabilities (N, classes) by regression on inputs (N, D) of the other folds alone.

    `c` is the one of `STRENGTHS` which, fitted on `MOST_TUNED` images, has the lowest log loss on the first
    fold, whose labels are as doubtful as any. `advance` is called after each of `FITS` fits. A class that the
    other folds do not hold has probability 0, and no other has: softmax in float32 would give 0 to the most
    confident mistakes.
    """
    fold_of = folds(labels, groups)
    probabilities = np.zeros((len(labels), classes))

    def predict(fold: int, c: float, most: int = MOST_FITTED) -> np.ndarray:
        chosen = np.sort(np.random.default_rng(seed).permutation(np.flatnonzero(fold_of != fold))[:most])
        model = Regression(inputs[chosen], labels[chosen], classes, c)
        predicted = model.probabilities(inputs[fold_of == fold])
        predicted[:, model.present] = predicted[:, model.present].clip(TINY)
        advance(1)
        return predicted

    used = [fold for fold in range(FOLDS) if 0 < (fold_of == fold).sum() < len(labels)]
    advance(FOLDS - len(used) if used else FITS)
    if not used:
        return STRENGTHS[0], probabilities
    with threadpool_limits(1):  # two threads are no faster for such small products, and slower on a busy machine
        tuned, true = {c: predict(used[0], c, MOST_TUNED) for c in STRENGTHS}, labels[fold_of == used[0]]
        c = min(STRENGTHS, key=lambda c: float(losses(tuned[c][np.arange(len(true)), true]).mean()))
        for fold in used:
            probabilities[fold_of == fold] = predict(fold, c)
    return c, probabilities


def find(
    probabilities: np.ndarray, labels: np.ndarray, images: Sequence[Mapping[str, Any]], classes: tuple[str, ...]
) -> list[LabelIssue]:
    """Return images with a doubtful label, the worst first: `probabilities` (N, C) are out of fold.

    Images whose label has probability 0, since no other fold holds its class, are left out.
    """
    judged = np.flatnonzero(probabilities[np.arange(len(labels)), labels] > 0)
    present, numbers = np.unique(labels[judged], return_inverse=True)
    if len(present) < 2:
        return []
    own = probabilities[np.ix_(judged, present)]
    own = own / own.sum(1, keepdims=True)
    quality = get_label_quality_scores(numbers, own, method="self_confidence")
    doubtful = np.flatnonzero(find_label_issues(numbers, own, filter_by="prune_by_class", n_jobs=1))
    issues = []
    for i in doubtful.tolist():
        image, best = images[judged[i]], int(own[i].argmax())
        issues.append(
            LabelIssue(
                path=image["path"], sha256=image["sha256"], split=image["split"], label=classes[present[numbers[i]]],
                suggested=classes[present[best]], confidence=round(float(own[i, best]), 4), quality=round(float(quality[i]), 4),
            )
        )  # fmt: skip
    return sorted(issues, key=lambda issue: (issue.quality, issue.path))


def write(path: Path, issues: Iterable[LabelIssue]) -> None:
    """Write the issues as CSV, a column per field of `LabelIssue`."""
    with atomic.new_file(path) as working, working.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(LabelIssue)])
        writer.writeheader()
        writer.writerows(map(asdict, issues))
