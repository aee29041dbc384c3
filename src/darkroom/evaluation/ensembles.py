"""Several models, or several views of an image, asked together: the mean of their probabilities."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from darkroom.evaluation.metrics import losses

ROUNDS = 20  # models put into the bag, one after the other
LESS = 1e-9  # of log loss, below which a change is rounding
AT_ONCE = 256  # images of which views are in memory
CROP = 0.875  # of a side; 224 of 256 pixels (Krizhevsky et al. 2012)


def mean(answers: Mapping[str, np.ndarray], weights: Mapping[str, float]) -> np.ndarray:
    """Return the weighted mean of probabilities (N, C); a model without a weight does not count."""
    total = sum(weights.values())
    return np.sum([answers[name] * (weight / total) for name, weight in weights.items()], axis=0)


def greedy(answers: Mapping[str, np.ndarray], labels: np.ndarray, rounds: int = ROUNDS) -> dict[str, int]:
    """Return how often each model is in the bag that greedy selection with replacement makes (Caruana et al. 2004).

    Each round adds the model with which the mean has the lowest log loss on (N, C) for `labels` (N,), of equals the first by
    name; the answer is the bag after the round that was best. Accuracy, in steps of one image, would choose by chance.
    """
    rows = np.arange(len(labels))
    given = {name: answers[name][rows, labels].astype(np.float64) for name in sorted(answers)}
    total, best = np.zeros(len(labels)), (np.inf, 0)
    bag: list[str] = []
    for size in range(1, rounds + 1):
        lost = {name: float(losses((total + said) / size).mean()) for name, said in given.items()}
        chosen = min(lost, key=lambda name: lost[name])
        bag.append(chosen)
        total = total + given[chosen]
        if lost[chosen] < best[0] - LESS:
            best = lost[chosen], size
    kept = bag[: best[1]]
    return {name: kept.count(name) for name in sorted(set(kept))}


def views(images: np.ndarray, crops: bool, mirror: bool) -> Iterator[np.ndarray]:
    """Yield views of images (N, S, S, 3) uint8, first as they are: crops of corners and centre, each also mirrored."""
    import cv2

    size = images.shape[1]
    side = max(1, round(size * CROP))
    far, middle = size - side, (size - side) // 2
    places = [(0, 0), (0, far), (far, 0), (far, far), (middle, middle)] if crops and far else []
    for place in [None, *places]:
        view = images
        if place is not None:
            y, x = place
            cut = images[:, y : y + side, x : x + side]
            view = np.stack([cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR) for image in cut])
        yield view
        if mirror:
            yield view[:, :, ::-1]


def over_views(
    answer: Callable[[np.ndarray], np.ndarray],
    images: np.ndarray,
    crops: bool,
    mirror: bool,
    done: Callable[[int], None] = lambda count: None,
) -> tuple[np.ndarray, int]:
    """Return the mean of what a model says of all views, probabilities (N, C), and the number of views.

    Views are made of `AT_ONCE` images at a time, which are then reported to `done`.
    """
    made, count = [], 0
    for part in (images[start : start + AT_ONCE] for start in range(0, len(images), AT_ONCE)):
        total, count = np.zeros(()), 0
        for view in views(part, crops, mirror):
            total, count = total + answer(view), count + 1
        made.append(total / count)
        done(len(part))
    return np.concatenate(made), count
