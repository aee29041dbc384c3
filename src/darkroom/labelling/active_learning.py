"""Active learning: of images without labels those whose labels teach most, uncertain ones that differ from each other.

`python benchmarks/active_learning.py` compares this order with others, and with chance.
"""

from __future__ import annotations

import numpy as np

BATCH = 20  # images that are chosen together
POOL = 10  # times as many uncertain images as are chosen from
STEPS = 10  # of k-means


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


def choose(probabilities: np.ndarray, embeddings: np.ndarray, count: int, rng: np.random.Generator) -> list[int]:
    """Return the indices of at most `count` images to label, of the largest cluster first.

    `probabilities` (N, C) and `embeddings` (N, D) are those of the images without labels. The `POOL * count` most uncertain
    images are clustered by k-means with their uncertainty as weights, and of each cluster the image next to its centre is taken
    (Zhdanov 2019).
    """
    count = min(count, len(probabilities))
    lead = margins(probabilities)
    pool = np.argsort(lead, kind="stable")[: POOL * count]
    rows, weights = normalised(embeddings[pool]), (1 - lead[pool]).clip(1e-9)
    means = rows[rng.choice(len(rows), count, replace=False, p=weights / weights.sum())]
    owner = np.zeros(len(rows), int)
    for _ in range(STEPS):
        owner = (rows @ means.T).argmax(1)
        for k in range(count):
            own = owner == k
            if own.any():
                means[k] = np.average(rows[own], axis=0, weights=weights[own])
        means = normalised(means)
    nearest = rows @ means.T
    chosen: list[int] = []
    for k in np.argsort(-np.bincount(owner, minlength=count), kind="stable").tolist():
        best = int(nearest[:, k].argmax())
        nearest[best] = -np.inf  # of one cluster alone
        chosen.append(int(pool[best]))
    return chosen


def order(probabilities: np.ndarray, embeddings: np.ndarray, count: int, seed: int = 0, batch: int = BATCH) -> list[int]:
    """Return the indices of `count` images in the order in which to label them: `choose` again and again, `batch` at a time."""
    rng = np.random.default_rng(seed)
    left = np.arange(len(probabilities))
    chosen: list[int] = []
    while len(chosen) < count and len(left):
        picked = choose(probabilities[left], embeddings[left], min(batch, count - len(chosen)), rng)
        chosen += left[picked].tolist()
        left = np.delete(left, picked)
    return chosen
