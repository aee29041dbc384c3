"""The ranking of backbones: out-of-fold heads, LogME, intervals of differences."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from darkroom.evaluation import backbone_ranking
from darkroom.evaluation.backbone_ranking import Heads, choose, cross_validate, logme, rank

LABELS = np.arange(120) % 3
GROUPS = np.array([f"group {i}" for i in range(120)])


def embeddings(separation: float, dim: int = 8, seed: int = 0) -> np.ndarray:
    """Return points (120, dim) of three classes, whose centres lie `separation` from 0, with noise of deviation 1."""
    rng = np.random.default_rng(seed)
    centres = np.eye(3, dim) * separation
    return (centres[LABELS] + rng.normal(size=(120, dim))).astype(np.float32)


def test_an_image_is_predicted_by_heads_that_did_not_see_it():
    """Embeddings that hold nothing but the identity of an image are classified at chance, though a head can learn them by heart."""
    correct = cross_validate(np.eye(120, dtype=np.float32), LABELS, GROUPS, 3, 0).correct
    assert correct.mean() < 0.5


def test_copies_share_a_fold():
    """Copies of an image are no help: with each image twice, in groups, identities still give chance."""
    inputs, groups = np.tile(np.eye(60, dtype=np.float32), (2, 1)), np.tile(GROUPS[:60], 2)
    labels = np.tile(LABELS[:60], 2)
    assert cross_validate(inputs, labels, groups, 3, 0).correct.mean() < 0.5
    assert cross_validate(inputs, labels, GROUPS, 3, 0).correct.mean() > 0.6


def test_logme_is_the_largest_evidence():
    """LogME is the log density of the labels as a Gaussian process with a linear kernel, at the best of all pairs of precisions."""
    inputs = embeddings(1.0, 4).astype(float)
    u, singular, _ = np.linalg.svd(inputs, full_matrices=False)
    alpha, beta = np.meshgrid(np.geomspace(1e-2, 1e4, 200), np.geomspace(0.5, 50, 200))
    best = []
    for label in range(3):
        target = (label == LABELS).astype(float)
        projected = u.T @ target
        variances = 1 / beta + singular[:, None, None] ** 2 / alpha
        determinant = np.log(variances).sum(0) - (120 - 4) * np.log(beta)
        quadratic = (projected[:, None, None] ** 2 / variances).sum(0) + beta * (target @ target - projected @ projected)
        best.append((-0.5 * (120 * np.log(2 * np.pi) + determinant + quadratic)).max() / 120)
    assert logme(inputs, LABELS) == pytest.approx(np.mean(best), abs=1e-3)


@pytest.mark.parametrize("dim", [8, 200])
def test_better_embeddings_have_more_evidence(dim):
    """LogME rises with the distance of the classes, also where there are more numbers than images."""
    values = [logme(embeddings(separation, dim), LABELS) for separation in (0.0, 1.0, 2.0, 4.0)]
    assert stats.spearmanr(values, range(4)).statistic == 1


def test_the_interval_holds_the_difference_and_equal_ones_none():
    """The best is first; the interval of a difference has the difference in it, and is empty for the same results."""
    heads = {
        name: cross_validate(embeddings(separation), LABELS, GROUPS, 3, 0) for name, separation in (("a", 1.0), ("b", 3.0))
    } | {"c": cross_validate(embeddings(3.0), LABELS, GROUPS, 3, 0)}  # fmt: skip
    ranked = rank(heads, dict.fromkeys(heads, 0.0), GROUPS)
    assert [item.name for item in ranked] == ["b", "c", "a"]
    assert (ranked[1].difference, ranked[1].low, ranked[1].high) == (0, 0, 0)
    assert ranked[2].low < ranked[2].difference < ranked[2].high < 0


def test_groups_widen_the_interval():
    """Images that belong together count as one: with groups of ten the interval is wider."""
    correct = np.repeat(np.random.default_rng(0).random(12) < 0.7, 10)
    heads = {"best": Heads(np.ones(120, bool), np.zeros(120)), "other": Heads(correct, np.ones(120))}
    alone, grouped = (rank(heads, {"best": 0, "other": 0}, groups)[1] for groups in (GROUPS, np.repeat(np.arange(12), 10)))
    assert grouped.high - grouped.low > 1.5 * (alone.high - alone.low)


def test_the_best_that_are_fast_enough_are_chosen():
    """`--max-ms` leaves out what is slower, and the order stays."""
    heads = {name: Heads(np.arange(120) < 100 - i, np.zeros(120)) for i, name in enumerate("abc")}
    ranked = rank(heads, dict.fromkeys(heads, 0.0), GROUPS)
    milliseconds = {"a": 50.0, "b": 10.0, "c": 5.0}
    assert choose(ranked, milliseconds, None, 2) == ["a", "b"]
    assert choose(ranked, milliseconds, 20, 1) == ["b"]
    assert choose(ranked, milliseconds, 1, 1) == []
    assert backbone_ranking.agreement(ranked[:2]) is None
