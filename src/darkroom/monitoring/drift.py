"""Are new images like those that a model was made for? Tests on arrays, each with a size that people can judge.

Each p-value is that of a permutation test: how often a random division of all images into two groups of these sizes looks as
different as this one. It is exact whatever the numbers are distributed like, and never 0. A difference counts where it is
significant, corrected for there being several tests (Holm 1979), and large enough to matter: with many images a tiny one is
significant too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from darkroom.evaluation.seed_comparison import holm
from darkroom.monitoring.reference import Images

PERMUTATIONS = 1999
TESTS = 3
FINEST = TESTS / (PERMUTATIONS + 1)  # the smallest corrected p-value that there can be
AT_ONCE = 256  # permutations


@dataclass(frozen=True)
class Limits:
    """When a difference counts: its corrected p-value below `alpha`, and its size at least that of its kind."""

    alpha: float = 0.01
    embeddings: float = 0.65  # how often a new image is told from a known one, 0.5 is chance
    classes: float = 0.2  # share of the images that would need another class for both to have the same shares
    confidence: float = 0.1  # by how much the mean confidence is lower


@dataclass(frozen=True)
class Test:
    """One comparison: its size, the p-value, that corrected for several tests, and whether it counts."""

    name: str
    size: float
    limit: float
    p: float
    corrected: float
    drifted: bool


def compare(known: Images, new: Images, classes: int, limits: Limits, seed: int = 0) -> tuple[list[Test], np.ndarray]:
    """Compare new images with known ones; return the tests, and how unlike the known ones each new image is, (N,) from 0 to 1."""
    draw = np.random.default_rng(seed)
    size, p, unlike = discrepancy(known.embeddings, new.embeddings, draw)
    shift, q = class_shift(known.predicted, new.predicted, classes, draw)
    loss, r = confidence_loss(known.confidence, new.confidence, draw)
    found = (("embeddings", size, p), ("classes", shift, q), ("confidence", loss, r))
    corrected = holm([item[2] for item in found])
    return [
        Test(name, value, limit, raw, adjusted, adjusted < limits.alpha and value >= limit)
        for (name, value, raw), adjusted, limit in zip(
            found, corrected, (limits.embeddings, limits.classes, limits.confidence), strict=True
        )
    ], unlike


def discrepancy(known: np.ndarray, new: np.ndarray, draw: np.random.Generator) -> tuple[float, float, np.ndarray]:
    """Compare embeddings (M, D) and (N, D) by the maximum mean discrepancy (Gretton et al. 2012).

    Returns how well the two are told apart (the area under the curve of the witness, each image judged by the others alone: 0.5
    is chance, 1 perfect), the p-value, and how unlike the known ones each of the new ones is: 1 minus its mean kernel with them.
    The kernel is Gaussian, its width the median distance, on numbers of deviation 1 among all: nothing may depend on which are new,
    else a random division would not be as good as this one.
    """
    both = np.concatenate([known, new]).astype(np.float64)
    both -= both.mean(0)
    both /= np.maximum(both.std(0), 1e-3 * max(float(both.std()), 1e-12))
    kernel = _kernel(both)
    first, count = len(known), len(both)
    np.fill_diagonal(kernel, 0.0)
    towards_known, towards_new = kernel[:, :first].sum(1), kernel[:, first:].sum(1)
    own_known, own_new = (np.arange(count) < first), (np.arange(count) >= first)
    witness = towards_new / (count - first - own_new) - towards_known / (first - own_known)
    at_least = 1
    observed = _unbiased(kernel, own_known[:, None])[0]
    for start in range(0, PERMUTATIONS, AT_ONCE):
        some = min(AT_ONCE, PERMUTATIONS - start)
        drawn = np.argsort(draw.random((count, some)), axis=0) < first
        at_least += int((_unbiased(kernel, drawn) >= observed - 1e-12).sum())
    return _area(witness[:first], witness[first:]), at_least / (PERMUTATIONS + 1), 1 - towards_known[first:] / first


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
    """Return how often a number of `high` is above one of `low`, equal ones counting half."""
    ordered = np.sort(low)
    below, up_to = np.searchsorted(ordered, high, "left"), np.searchsorted(ordered, high, "right")
    return float((below + up_to).mean() / 2 / len(low))


def class_shift(known: np.ndarray, new: np.ndarray, classes: int, draw: np.random.Generator) -> tuple[float, float]:
    """Compare predicted classes (M,) and (N,) int; return the total variation of their shares, and the p-value of chi-squared."""
    both = np.concatenate([known, new])
    observed = np.bincount(new, minlength=classes)
    whole = np.bincount(both, minlength=classes)
    drawn = draw.multivariate_hypergeometric(whole, len(new), PERMUTATIONS, method="marginals")

    def statistic(counts: np.ndarray) -> np.ndarray:
        expected = whole * len(new) / len(both)
        return ((counts - expected) ** 2 / np.maximum(expected, 1e-12) * (whole > 0)).sum(-1)

    p = (1 + int((statistic(drawn) >= statistic(observed) - 1e-9).sum())) / (PERMUTATIONS + 1)
    shares = np.bincount(known, minlength=classes) / len(known), observed / len(new)
    return float(np.abs(shares[1] - shares[0]).sum() / 2), p


def confidence_loss(known: np.ndarray, new: np.ndarray, draw: np.random.Generator) -> tuple[float, float]:
    """Return by how much the mean confidence of new images is lower, and the p-value that it is no lower."""
    both = np.concatenate([known, new]).astype(np.float64)
    loss = float(known.mean() - new.mean())
    at_least = 1
    for start in range(0, PERMUTATIONS, AT_ONCE):
        some = min(AT_ONCE, PERMUTATIONS - start)
        chosen = np.argsort(draw.random((len(both), some)), axis=0) < len(known)
        first = (chosen * both[:, None]).sum(0) / len(known)
        other = (both.sum() - first * len(known)) / len(new)
        at_least += int((first - other >= loss - 1e-12).sum())
    return loss, at_least / (PERMUTATIONS + 1)
