"""Labels that may be wrong, by confident learning (Northcutt et al. 2021) from what a model says that has not seen them."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from darkroom.evaluation import pixel_baseline
from darkroom.evaluation.metrics import losses

FOLDS = 5
FITTED = 5_000  # images that a fold's model is fitted on, at most
TRIED = 1_000  # images on which each of `STRENGTHS` is tried
STRENGTHS = (0.001, 0.01, 0.1)  # of the likelihood against the penalty
FITS = len(STRENGTHS) + FOLDS
TINY = float(np.finfo(np.float32).tiny)
COLUMNS = ("path", "sha256", "split", "label", "suggested", "confidence", "quality")


def folds(labels: np.ndarray, groups: Sequence[str], count: int = FOLDS) -> np.ndarray:
    """Return the fold (N,) of each image: groups stay together, and those of each class go round the folds.

    A group has the class that most of its images have.
    """
    members: dict[str, list[int]] = {}
    for group, label in zip(groups, labels.tolist(), strict=True):
        members.setdefault(group, []).append(label)
    classes = {group: min(set(held), key=lambda label: (-held.count(label), label)) for group, held in members.items()}
    ordered = sorted(classes, key=lambda group: (classes[group], group))
    place = {group: i % count for i, group in enumerate(ordered)}
    return np.array([place[group] for group in groups], int)


def out_of_fold(
    inputs: np.ndarray,
    labels: np.ndarray,
    groups: Sequence[str],
    classes: int,
    seed: int,
    done: Callable[[int], None] = lambda fits: None,
) -> tuple[float, np.ndarray]:
    """Return probabilities (N, classes) by logistic regression on inputs (N, D) of the other folds alone, and its `c`.

    That is the one of `STRENGTHS` which, fitted on `TRIED` images, has the lowest log loss on the first fold, whose labels are as
    doubtful as any. Of `FITS` fits those that are over are reported to `done`. A class that
    the other folds do not hold has the probability 0, and no other: softmax in float32 would give 0 to the surest mistakes.
    """
    where = folds(labels, groups)
    made = np.zeros((len(labels), classes))

    def said(fold: int, c: float, most: int = FITTED) -> np.ndarray:
        chosen = np.sort(np.random.default_rng(seed).permutation(np.flatnonzero(where != fold))[:most])
        model = pixel_baseline.Regression(inputs[chosen], labels[chosen], classes, c)
        given = model.probabilities(inputs[where == fold])
        given[:, model.seen] = given[:, model.seen].clip(TINY)
        done(1)
        return given

    used = [fold for fold in range(FOLDS) if 0 < (where == fold).sum() < len(labels)]
    done(FOLDS - len(used) if used else FITS)
    if not used:
        return STRENGTHS[0], made
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):  # products this small are no faster in two threads, and several times slower beside other work
        tried, held = {c: said(used[0], c, TRIED) for c in STRENGTHS}, labels[where == used[0]]
        c = min(STRENGTHS, key=lambda c: float(losses(tried[c][np.arange(len(held)), held]).mean()))
        for fold in used:
            made[where == fold] = said(fold, c)
    return c, made


def issues(
    probabilities: np.ndarray, labels: np.ndarray, images: Sequence[dict[str, Any]], classes: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Return the images whose label may be wrong, the worst first: `probabilities` (N, C) of models that have not seen the image.

    `confidence` is the probability of the class that is suggested, `quality` that of the label. Where the label had no chance,
    since no other fold holds its class, nothing is said.
    """
    judged = np.flatnonzero(probabilities[np.arange(len(labels)), labels] > 0)
    seen, numbers = np.unique(labels[judged], return_inverse=True)
    if len(seen) < 2:
        return []
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    said = probabilities[np.ix_(judged, seen)]
    said = said / said.sum(1, keepdims=True)
    quality = get_label_quality_scores(numbers, said, method="self_confidence")
    wrong = np.flatnonzero(find_label_issues(numbers, said, filter_by="prune_by_class", n_jobs=1))
    found = []
    for i in wrong.tolist():
        image, best = images[judged[i]], int(said[i].argmax())
        found.append({
            "path": image["path"], "sha256": image["sha256"], "split": image["split"], "label": classes[seen[numbers[i]]],
            "suggested": classes[seen[best]], "confidence": round(float(said[i, best]), 4), "quality": round(float(quality[i]), 4),
        })  # fmt: skip
    return sorted(found, key=lambda row: (row["quality"], row["path"]))


def write(path: Path, found: Sequence[dict[str, Any]]) -> None:
    """Write the candidates as a table with `COLUMNS`."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=COLUMNS)
        writer.writeheader()
        writer.writerows(found)
