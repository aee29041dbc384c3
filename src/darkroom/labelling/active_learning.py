"""Active learning: of images without labels those whose labels teach most, uncertain ones among many like them.

`python benchmarks/active_learning.py` compares this order with others, and with chance.
"""

from __future__ import annotations

import numpy as np

BATCH = 20  # images that are chosen together
POOL = 10  # times as many uncertain images as are chosen from
MOST = 5_000  # images that are to be covered, at most
WIDTH = 0.5  # of the kernel, as a share of the median distance
AT_ONCE = 256  # images that are compared with all others together


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


def choose(probabilities: np.ndarray, embeddings: np.ndarray, count: int, labelled: np.ndarray) -> list[int]:
    """Return the indices of at most `count` images to label, the one that is worth most first.

    `probabilities` (N, C) and `embeddings` (N, D) are those of the images without labels, `labelled` (M, D) are embeddings of
    images that have been labelled since the model was trained. An image covers those near it, by a Gaussian kernel of the
    embeddings; each of the `POOL * count` most uncertain ones is worth what it covers beyond those before it, each image counting
    by its uncertainty (Bae et al. 2025, uncertainty herding).
    """
    count = min(count, len(probabilities))
    if not count:
        return []
    doubt = (1 - margins(probabilities)).astype(np.float32)
    pool = np.argsort(-doubt, kind="stable")[: POOL * count]
    rows = normalised(embeddings)
    targets = np.linspace(0, len(rows) - 1, min(len(rows), MOST)).round().astype(int)
    distances = 1 - rows[pool] @ rows[targets].T
    width = WIDTH * float(np.median(distances)) + 1e-6
    worth, cover = doubt[targets] + 1e-6, np.exp(-distances / width)
    covered = np.zeros(len(targets), np.float32)
    for start in range(0, len(labelled), AT_ONCE):
        near = 1 - normalised(labelled[start : start + AT_ONCE]) @ rows[targets].T
        covered = np.maximum(covered, np.exp(-near / width).max(0))
    free = np.ones(len(pool), bool)
    chosen: list[int] = []
    for _ in range(count):
        gains = np.maximum(cover - covered, 0) @ worth
        best = int(np.where(free, gains, -1).argmax())
        free[best] = False
        covered = np.maximum(covered, cover[best])
        chosen.append(int(pool[best]))
    return chosen


def order(
    probabilities: np.ndarray, embeddings: np.ndarray, count: int, labelled: np.ndarray | None = None, batch: int = BATCH
) -> list[int]:
    """Return the indices of `count` images in the order in which to label them: `choose` again and again, `batch` at a time, as if
    those before had labels; `labelled` (M, D) have them already."""
    left = np.arange(len(probabilities))
    labelled_so_far = np.empty((0, embeddings.shape[1]), np.float32) if labelled is None else labelled
    chosen: list[int] = []
    while len(chosen) < count and len(left):
        picked = choose(probabilities[left], embeddings[left], min(batch, count - len(chosen)), labelled_so_far)
        chosen += left[picked].tolist()
        labelled_so_far = np.concatenate([labelled_so_far, embeddings[left[picked]]])
        left = np.delete(left, picked)
    return chosen
