"""Which frozen backbone suits a data set, from its embeddings of the training and validation images alone.

The accuracy is that of a linear head on embeddings, cross-validated: each image is predicted by a head that was trained on
other folds, and images of a group share a fold. LogME (You et al. 2021) judges the same embeddings by another way, without folds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import stats
from threadpoolctl import threadpool_limits

from darkroom.evaluation import folds, significance
from darkroom.evaluation.pixel_baseline import Regression

FOLDS = 5
STRENGTHS = (0.001, 0.01, 0.1)  # of the likelihood against the penalty; the first fold chooses
FITS = len(STRENGTHS) + FOLDS
MOST_FITTED = 5_000  # images that a head is fitted on, at most
TINY = 1e-12


class Heads(NamedTuple):
    """Out-of-fold results of a backbone: whether each image is classified correctly (N,) bool, and its log loss (N,)."""

    correct: np.ndarray
    losses: np.ndarray


@dataclass(frozen=True)
class Ranked:
    """A backbone's place: its out-of-fold accuracy and log loss, its difference from the best with a 95% interval, and LogME."""

    name: str
    accuracy: float
    log_loss: float
    difference: float
    low: float
    high: float
    logme: float


def cross_validate(
    embeddings: np.ndarray, labels: np.ndarray, groups: Sequence[str], classes: int, seed: int,
    advance: Callable[[int], None] = lambda fits: None,
) -> Heads:  # fmt: skip
    """Return the out-of-fold results of a linear head on embeddings (N, D) with labels (N,) of `classes` classes.

    `advance` is called after each of `FITS` fits.
    """
    return predict_folds(embeddings, labels, folds.deal(labels, groups, FOLDS), classes, seed, advance)


def predict_folds(
    embeddings: np.ndarray, labels: np.ndarray, fold_of: np.ndarray, classes: int, seed: int,
    advance: Callable[[int], None] = lambda fits: None,
) -> Heads:  # fmt: skip
    """Return the same for folds (N,) int below `FOLDS`."""
    probabilities = np.zeros((len(labels), classes))

    def predict(fold: int, c: float) -> np.ndarray:
        chosen = np.sort(np.random.default_rng(seed).permutation(np.flatnonzero(fold_of != fold))[:MOST_FITTED])
        predicted = Regression(embeddings[chosen], labels[chosen], classes, c).probabilities(embeddings[fold_of == fold])
        advance(1)
        return predicted

    def loss(fold: int, predicted: np.ndarray) -> float:
        own = labels[fold_of == fold]
        return float(-np.log(predicted[np.arange(len(own)), own].clip(TINY)).mean())

    with threadpool_limits(1):
        used = [fold for fold in range(FOLDS) if 0 < (fold_of == fold).sum() < len(labels)]
        tuned = {c: loss(used[0], predict(used[0], c)) for c in STRENGTHS}
        c = min(tuned, key=tuned.__getitem__)
        for fold in used:
            probabilities[fold_of == fold] = predict(fold, c)
    losses = -np.log(probabilities[np.arange(len(labels)), labels].clip(TINY))
    return Heads(probabilities.argmax(1) == labels, losses)


def logme(embeddings: np.ndarray, labels: np.ndarray) -> float:
    """Return the logarithm of the maximum evidence of a linear model per image, the mean over classes (You et al. 2021).

    Embeddings (N, D), labels (N,). Larger is better; values compare backbones on the same images only.
    """
    features = embeddings.astype(np.float64)
    count, dim = features.shape
    with threadpool_limits(1, "blas"):  # several threads wait for each other far longer than they compute
        u, singular, _ = np.linalg.svd(features, full_matrices=False)
    squares = singular**2
    evidences = []
    for label in np.unique(labels):
        target = (labels == label).astype(np.float64)
        projected = (u.T @ target) ** 2
        outside = max(float(target @ target) - float(projected.sum()), 0.0)
        alpha, beta, before = 1.0, 1.0, math.inf
        for _ in range(100):
            ratio = alpha / beta
            gamma = float((squares / (squares + ratio)).sum())
            weights = float((squares * projected / (squares + ratio) ** 2).sum())
            residual = float((ratio**2 * projected / (squares + ratio) ** 2).sum()) + outside
            alpha, beta = gamma / max(weights, TINY), (count - gamma) / max(residual, TINY)
            if abs(alpha / beta - before) <= 1e-3 * before:
                break
            before = alpha / beta
        shrunk = squares + alpha / beta
        weights = float((squares * projected / shrunk**2).sum())
        residual = float(((alpha / beta) ** 2 * projected / shrunk**2).sum()) + outside
        determinant = float(np.log(alpha + beta * squares).sum()) + max(dim - len(squares), 0) * math.log(alpha)
        evidences.append(
            (dim * math.log(alpha) + count * math.log(beta) - determinant - beta * residual - alpha * weights
             - count * math.log(2 * math.pi)) / (2 * count)
        )  # fmt: skip
    return float(np.mean(evidences))


def rank(heads: Mapping[str, Heads], evidence: Mapping[str, float], groups: np.ndarray, seed: int = 0) -> list[Ranked]:
    """Return the backbones, the most accurate first, of equal ones that with the lower log loss.

    `groups` (N,) are images that belong together. The interval of a difference is that of a paired bootstrap over groups
    (Efron 1979): it has the chance of the images, not that of another split into folds.
    """
    order = sorted(heads, key=lambda name: (-heads[name].correct.mean(), heads[name].losses.mean(), name))
    best = heads[order[0]].correct
    tables = list(significance.draws(groups, seed))
    ranked = []
    for name in order:
        gain = heads[name].correct.astype(np.float64) - best
        differences = np.concatenate([gain @ times / times.sum(0) for times in tables])
        low, high = significance.percentiles(differences) or (0.0, 0.0)
        ranked.append(Ranked(
            name, float(heads[name].correct.mean()), float(heads[name].losses.mean()), float(gain.mean()), low, high, evidence[name]
        ))  # fmt: skip
    return ranked


def agreement(ranked: Sequence[Ranked]) -> float | None:
    """Return Kendall's rank correlation of accuracy and LogME; None for fewer than three backbones."""
    if len(ranked) < 3:
        return None
    value = float(stats.kendalltau([item.accuracy for item in ranked], [item.logme for item in ranked]).statistic)
    return None if math.isnan(value) else value


def choose(ranked: Sequence[Ranked], milliseconds: Mapping[str, float], most: float | None, count: int) -> list[str]:
    """Return the names of the best `count` backbones that take at most `most` milliseconds an image."""
    return [item.name for item in ranked if most is None or milliseconds[item.name] <= most][:count]
