"""Drift tests: compare a model's outputs on new images with those on its reference images.

Images must be independent of each other: of a series of new images, and of a group of reference images, one
counts (`series.representatives`, `reference.compute`). Each p-value is that of a permutation test: how often
a random division of all images into two groups of these sizes differs as much as this one. It is exact for
any distribution, and never 0. A difference is drift if it is significant at the level of this test
(`levels`), corrected for several properties (Holm 1979), and large enough to matter: with many images a tiny
one is significant too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from darkroom.evaluation.significance import holm
from darkroom.monitoring.reference import Outputs

PERMUTATIONS = 499  # of a difference below its limit, which is no drift whatever its p-value
ENOUGH = 20  # permutations that differ as much, after which no more are drawn (Besag and Clifford 1991)
RESOLUTION = 2  # permutations that may differ as much in the smallest p-value that is significant, nearly
TESTS = 3
BATCH, MOST_IN_BATCH = 64, 2048  # permutations drawn together, first and at most
Draw = Callable[[int], np.ndarray]  # from a number of permutations to the statistic of each


@dataclass(frozen=True)
class Limits:
    """A difference is drift if its size is at least that of its kind, and it is significant.

    `alpha` is the probability of a false alarm in all tests of `levels.DAYS`.
    """

    alpha: float = 0.05
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


def compare(
    reference: Outputs, new: Outputs, classes: int, limits: Limits, level: float, seed: int = 0
) -> tuple[list[DriftTest], np.ndarray]:
    """Return the tests of new images against the reference at a significance level, and their dissimilarities, (N,) from 0 to 1."""
    rng = np.random.default_rng(seed)
    separation, draw_discrepancy, discrepancy, dissimilarity = compare_embeddings(reference.embeddings, new.embeddings, rng)
    shift, draw_shares, chi_squared = compare_classes(reference.predicted, new.predicted, classes, rng)
    drop, draw_drops = compare_confidence(reference.confidence, new.confidence, rng)
    results = [
        ("embeddings", separation, limits.embeddings, discrepancy, draw_discrepancy),
        ("classes", shift, limits.classes, chi_squared, draw_shares), ("confidence", drop, limits.confidence, drop, draw_drops),
    ]  # fmt: skip
    fine = math.ceil(RESOLUTION * TESTS / level)
    ps = [
        p_value(value, draw, max(fine, PERMUTATIONS) if size >= limit else PERMUTATIONS) for _, size, limit, value, draw in results
    ]
    return [
        DriftTest(name, size, limit, p, adjusted, adjusted < level and size >= limit)
        for (name, size, limit, *_), p, adjusted in zip(results, ps, holm(ps), strict=True)
    ], dissimilarity


def p_value(observed: float, draw: Draw, most: int) -> float:
    """Return how often the statistic of a permutation is at least as large as the observed one.

    After `ENOUGH` of them it is known well enough (Besag and Clifford 1991); `most` permutations are drawn at most.
    """
    at_least = done = 0
    while done < most:
        values = draw(min(max(BATCH, done), MOST_IN_BATCH, most - done))
        hits = np.flatnonzero(values >= observed - 1e-12)
        if at_least + len(hits) >= ENOUGH:
            return ENOUGH / (done + int(hits[ENOUGH - at_least - 1]) + 1)
        at_least, done = at_least + len(hits), done + len(values)
    return (at_least + 1) / (done + 1)


def compare_embeddings(reference: np.ndarray, new: np.ndarray, rng: np.random.Generator) -> tuple[float, Draw, float, np.ndarray]:
    """Compare embeddings (M, D) and (N, D) by the maximum mean discrepancy (Gretton et al. 2012).

    Returns how well the two are told apart (the area under the curve of the witness function, each image
    judged by the others alone: 0.5 is chance, 1 perfect), the permutations, the discrepancy, and the
    dissimilarity of each new image: 1 minus its mean kernel with the reference. The kernel is Gaussian, its
    width the median distance, on features scaled by their deviation in all images. Nothing may depend on which
    images are new, else a random division would not be exchangeable with this one.
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

    def draw(size: int) -> np.ndarray:
        return _unbiased(kernel, _divisions(rng, count, first, size))

    observed = float(_unbiased(kernel, is_reference[:, None])[0])
    return _area(witness[:first], witness[first:]), draw, observed, 1 - to_reference[first:] / first


def dissimilarity(reference: np.ndarray, new: np.ndarray) -> np.ndarray | None:
    """Return the dissimilarity of new images (N, D) as `compare_embeddings` does; None where there are fewer than two."""
    return compare_embeddings(reference, new, np.random.default_rng(0))[3] if len(new) > 1 else None


def _divisions(rng: np.random.Generator, count: int, first: int, size: int) -> np.ndarray:
    """Return random divisions (count, size) bool, in each of which `first` are true."""
    chosen = np.zeros((size, count), bool)
    np.put_along_axis(chosen, np.argpartition(rng.random((size, count)), first - 1, axis=1)[:, :first], True, axis=1)
    return chosen.T


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


def compare_classes(reference: np.ndarray, new: np.ndarray, classes: int, rng: np.random.Generator) -> tuple[float, Draw, float]:
    """Compare predicted classes (M,) and (N,) int: total variation of shares, permutations of chi-squared, and chi-squared."""
    observed = np.bincount(new, minlength=classes)
    total = np.bincount(np.concatenate([reference, new]), minlength=classes)
    expected = total * len(new) / (len(reference) + len(new))

    def statistic(counts: np.ndarray) -> np.ndarray:
        return np.round(((counts - expected) ** 2 / np.maximum(expected, 1e-12) * (total > 0)).sum(-1), 9)

    def draw(size: int) -> np.ndarray:
        return statistic(rng.multivariate_hypergeometric(total, len(new), size, method="marginals"))

    before, after = np.bincount(reference, minlength=classes) / len(reference), observed / len(new)
    return float(np.abs(after - before).sum() / 2), draw, float(statistic(observed))


def compare_confidence(reference: np.ndarray, new: np.ndarray, rng: np.random.Generator) -> tuple[float, Draw]:
    """Return the drop of the mean confidence of new images, and its permutations."""
    confidences = np.concatenate([reference, new]).astype(np.float64)
    drop = float(reference.mean() - new.mean())

    def draw(size: int) -> np.ndarray:
        first = confidences @ _divisions(rng, len(confidences), len(reference), size) / len(reference)
        return first - (confidences.sum() - first * len(reference)) / len(new)

    return drop, draw
