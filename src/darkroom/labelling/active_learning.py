"""Active learning: of images without labels those whose labels teach most, uncertain ones that differ from each other."""

from __future__ import annotations

import numpy as np

BATCH = 20  # images that are chosen together
SPREAD = 5  # times as many uncertain images as are chosen from


def margins(probabilities: np.ndarray) -> np.ndarray:
    """Return the difference of the two largest probabilities (N,) of each row of (N, C); small where a model is uncertain.

    Scheffer et al. 2001. With one class it is 1.
    """
    if probabilities.shape[1] < 2:
        return np.ones(len(probabilities))
    largest = np.partition(probabilities, -2, axis=1)[:, -2:]
    return np.asarray(largest[:, 1] - largest[:, 0])


def normalised(embeddings: np.ndarray) -> np.ndarray:
    """Return embeddings (N, D) with rows of length 1, float32."""
    rows = embeddings.astype(np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12))


def centres(embeddings: np.ndarray, count: int, labelled: np.ndarray | None = None, first: int = 0) -> list[int]:
    """Return the indices of at most `count` rows of embeddings (N, D), each the farthest from those before it.

    Greedy k-centre (Gonzalez 1985; for images Sener and Savarese 2018). `labelled` (M, D) are images that have labels: the
    first row is far from these; without them the row `first` begins.
    """
    count = min(count, len(embeddings))
    distances = np.full(len(embeddings), np.inf, np.float32)
    if labelled is not None and len(labelled):
        squares = (labelled**2).sum(1)
        for start in range(0, len(embeddings), 1024):  # (1024, M) at a time
            part = embeddings[start : start + 1024]
            distances[start : start + 1024] = ((part**2).sum(1)[:, None] + squares - 2 * part @ labelled.T).min(1)
    chosen: list[int] = []
    while len(chosen) < count:
        index = first if not chosen and np.isinf(distances).all() else int(distances.argmax())
        chosen.append(index)
        distances = np.minimum(distances, ((embeddings - embeddings[index]) ** 2).sum(1))
        distances[chosen] = -1
    return chosen


def choose(
    probabilities: np.ndarray, embeddings: np.ndarray, count: int, labelled: np.ndarray | None = None, spread: int = SPREAD
) -> list[int]:
    """Return the indices of `count` images to label, in this order: of the `spread * count` most uncertain ones those that lie
    far from each other and from the `labelled` ones (M, D).

    `probabilities` (N, C) and `embeddings` (N, D) are those of the images without labels.
    """
    uncertain = np.argsort(margins(probabilities), kind="stable")[: spread * count]
    near = normalised(embeddings[uncertain])
    known = None if labelled is None else normalised(labelled)
    return [int(uncertain[i]) for i in centres(near, count, known)]


def order(probabilities: np.ndarray, embeddings: np.ndarray, count: int, labelled: np.ndarray, batch: int = BATCH) -> list[int]:
    """Return the indices of `count` images in the order in which to label them: `choose` again and again, `batch` at a time."""
    left = np.arange(len(probabilities))
    chosen: list[int] = []
    while len(chosen) < count and len(left):
        known = np.concatenate([labelled, embeddings[chosen]])
        picked = choose(probabilities[left], embeddings[left], min(batch, count - len(chosen)), known)
        chosen += left[picked].tolist()
        left = np.delete(left, picked)
    return chosen
