"""Drift tests: compare a model's outputs on new images with those on its reference images.

Each p-value is that of a permutation test: how often a random division of all images into two groups of these
sizes differs as much as this one. It is exact for any distribution, and never 0. A difference is drift if it
is significant, corrected for several tests (Holm 1979), and large enough to matter: with many images a tiny
one is significant too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from darkroom.evaluation.significance import holm
from darkroom.monitoring.reference import Outputs

PERMUTATIONS = 1999
TESTS = 3
MIN_P = TESTS / (PERMUTATIONS + 1)  # the smallest corrected p-value that there can be
BATCH = 256  # permutations


@dataclass(frozen=True)
class Limits:
    """A difference is drift if its corrected p-value is below `alpha` and its size at least that of its kind."""

    alpha: float = 0.01
    embeddings: float = 0.65  # how often a new image is told from a reference image; 0.5 is chance
    classes: float = 0.2  # share of the images that would need another class for both to have the same shares
    confidence: float = 0.1  # drop of the mean confidence


@dataclass(frozen=True)
class DriftTest:
    """One test: size of the difference, its limit, the p-value, the corrected one, and the result."""

    name: str
    size: float
    limit: float
    p: float
    corrected: float
    drifted: bool


def compare(reference: Outputs, new: Outputs, classes: int, limits: Limits, seed: int = 0) -> tuple[list[DriftTest], np.ndarray]:
    """Return the tests of new images against the reference, and their dissimilarities, (N,) from 0 to 1."""
    rng = np.random.default_rng(seed)
    separation, p_embeddings, dissimilarity = compare_embeddings(reference.embeddings, new.embeddings, rng)
    shift, p_classes = compare_classes(reference.predicted, new.predicted, classes, rng)
    drop, p_confidence = compare_confidence(reference.confidence, new.confidence, rng)
    results = [
        ("embeddings", separation, limits.embeddings, p_embeddings), ("classes", shift, limits.classes, p_classes),
        ("confidence", drop, limits.confidence, p_confidence),
    ]  # fmt: skip
    corrected = holm([p for *_, p in results])
    return [
        DriftTest(name, size, limit, p, adjusted, adjusted < limits.alpha and size >= limit)
        for (name, size, limit, p), adjusted in zip(results, corrected, strict=True)
    ], dissimilarity


def compare_embeddings(reference: np.ndarray, new: np.ndarray, rng: np.random.Generator) -> tuple[float, float, np.ndarray]:
    """Compare embeddings (M, D) and (N, D) by the maximum mean discrepancy (Gretton et al. 2012).

    Returns how well the two are told apart (the area under the curve of the witness function, each image
    judged by the others alone: 0.5 is chance, 1 perfect), the p-value, and the dissimilarity of each new
    image: 1 minus its mean kernel with the reference. The kernel is Gaussian, its width the median distance,
    on features scaled by their deviation in all images. Nothing may depend on which images are new, else a
    random division would not be exchangeable with this one.
    """
    features = np.concatenate([reference, new]).astype(np.float64)
    features -= features.mean(0)
    features /= np.maximum(features.std(0), 1e-3 * max(float(features.std()), 1e-12))
    kernel = _kernel(features)
    first, count = len(reference), len(features)
    np.fill_diagonal(kernel, 0.0)
    to_reference, to_new = kernel[:, :first].sum(1), kernel[:, first:].sum(1)
    is_reference, is_new = (np.arange(count) < first), (np.arange(count) >= first)
    witness = to_new / (count - first - is_new) - to_reference / (first - is_reference)
    at_least = 1
    observed = _unbiased(kernel, is_reference[:, None])[0]
    for size in _batches():
        permuted = np.argsort(rng.random((count, size)), axis=0) < first
        at_least += int((_unbiased(kernel, permuted) >= observed - 1e-12).sum())
    return _area(witness[:first], witness[first:]), at_least / (PERMUTATIONS + 1), 1 - to_reference[first:] / first


def _batches() -> Iterator[int]:
    """Yield the number of permutations of each batch."""
    for start in range(0, PERMUTATIONS, BATCH):
        yield min(BATCH, PERMUTATIONS - start)


def _kernel(rows: np.ndarray) -> np.ndarray:
    squares = (rows**2).sum(1)
    distances = np.maximum(squares[:, None] + squares[None] - 2 * rows @ rows.T, 0)
    width = float(np.median(distances[np.triu_indices(len(rows), 1)]))
    return np.exp(-distances / max(width, 1e-12))


def _unbiased(kernel: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Return the unbiased squared discrepancy (P,) for divisions (count, P) bool; the kernel's diagonal is 0."""
    one = first.astype(np.float64)
    m, n = one.sum(0), len(one) - one.sum(0)
    towards = kernel @ one
    within = (one * towards).sum(0)
    across = towards.sum(0) - within
    other = kernel.sum() - within - 2 * across
    return within / (m * (m - 1)) + other / (n * (n - 1)) - 2 * across / (m * n)


def _area(low: np.ndarray, high: np.ndarray) -> float:
    """Return how often a number of `high` is above one of `low`; equal ones count half."""
    ordered = np.sort(low)
    below, up_to = np.searchsorted(ordered, high, "left"), np.searchsorted(ordered, high, "right")
    return float((below + up_to).mean() / 2 / len(low))


def compare_classes(reference: np.ndarray, new: np.ndarray, classes: int, rng: np.random.Generator) -> tuple[float, float]:
    """Compare predicted classes (M,) and (N,) int: total variation of shares, and p-value of chi-squared."""
    observed = np.bincount(new, minlength=classes)
    total = np.bincount(np.concatenate([reference, new]), minlength=classes)
    permuted = rng.multivariate_hypergeometric(total, len(new), PERMUTATIONS, method="marginals")
    expected = total * len(new) / (len(reference) + len(new))

    def statistic(counts: np.ndarray) -> np.ndarray:
        return ((counts - expected) ** 2 / np.maximum(expected, 1e-12) * (total > 0)).sum(-1)

    p = (1 + int((statistic(permuted) >= statistic(observed) - 1e-9).sum())) / (PERMUTATIONS + 1)
    before, after = np.bincount(reference, minlength=classes) / len(reference), observed / len(new)
    return float(np.abs(after - before).sum() / 2), p


def compare_confidence(reference: np.ndarray, new: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """Return the drop of the mean confidence of new images, and the p-value of no drop."""
    confidences = np.concatenate([reference, new]).astype(np.float64)
    drop = float(reference.mean() - new.mean())
    at_least = 1
    for size in _batches():
        chosen = np.argsort(rng.random((len(confidences), size)), axis=0) < len(reference)
        first = (chosen * confidences[:, None]).sum(0) / len(reference)
        second = (confidences.sum() - first * len(reference)) / len(new)
        at_least += int((first - second >= drop - 1e-12).sum())
    return drop, at_least / (PERMUTATIONS + 1)
