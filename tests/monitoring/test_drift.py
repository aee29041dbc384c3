"""Drift tests: exact without a change, sensitive to a change, and with the size of textbook definitions."""

from __future__ import annotations

import numpy as np
import pytest

from darkroom.monitoring import drift
from darkroom.monitoring.drift import Limits, compare, compare_classes, compare_confidence, compare_embeddings, p_value
from darkroom.monitoring.reference import Outputs


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def embeddings_p(reference: np.ndarray, new: np.ndarray, seed: int) -> float:
    _, draw, discrepancy, _ = compare_embeddings(reference, new, generator(seed))
    return p_value(discrepancy, draw, 199)


def classes_p(reference: np.ndarray, new: np.ndarray, seed: int) -> float:
    _, draw, chi_squared = compare_classes(reference, new, 4, generator(seed))
    return p_value(chi_squared, draw, 199)


def confidence_p(reference: np.ndarray, new: np.ndarray, seed: int) -> float:
    drop, draw = compare_confidence(reference, new, generator(seed))
    return p_value(drop, draw, 199)


def sparse(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return embeddings as after a ReLU: most numbers are 0."""
    return np.maximum(rng.normal(-2, 1, (count, 256)), 0)


def outputs(rng: np.random.Generator, count: int, shift: float = 0.0, sure: float = 0.9, shares=(0.5, 0.5)) -> Outputs:
    return Outputs(
        rng.normal(shift, 1, (count, 8)), rng.choice(len(shares), count, p=shares), np.clip(rng.normal(sure, 0.05, count), 0, 1)
    )


@pytest.mark.parametrize(
    "p_of",
    [
        lambda rng, seed: embeddings_p(rng.normal(size=(40, 5)), rng.normal(size=(15, 5)), seed),
        lambda rng, seed: embeddings_p(sparse(rng, 40), sparse(rng, 15), seed),
        lambda rng, seed: embeddings_p(rng.standard_t(3, (40, 256)), rng.standard_t(3, (15, 256)), seed),
        lambda rng, seed: classes_p(rng.integers(0, 4, 40), rng.integers(0, 4, 15), seed),
        lambda rng, seed: confidence_p(rng.random(40), rng.random(15), seed),
    ],
    ids=["embeddings", "sparse embeddings", "heavy tails", "classes", "confidence"],
)
def test_without_a_change_p_values_are_uniform(p_of):
    """Of 300 comparisons of like with like, about 5% have a p-value of at most 0.05 (binomial: 99.9% within
    2% to 10%)."""
    rng = generator(1)
    share = np.mean([p_of(rng, seed) <= 0.05 for seed in range(300)])
    assert 0.02 <= share <= 0.10


def test_without_a_change_the_area_is_one_half():
    """The area under the curve is 0.5 on average, also of sparse embeddings."""
    rng = generator(7)
    sizes = [compare_embeddings(sparse(rng, 60), sparse(rng, 30), generator())[0] for _ in range(10)]
    assert 0.45 < np.mean(sizes) < 0.55


def test_the_discrepancy_is_that_of_the_definition():
    """The vectorised statistic equals the unbiased estimate of Gretton et al. (2012), equation 3, by its sums
    over pairs."""
    rng = generator(2)
    rows, first = rng.normal(size=(11, 3)), 6
    kernel = drift._kernel(rows)
    pairs = [(i, j) for i in range(11) for j in range(11) if i != j]
    within = [np.mean([kernel[i, j] for i, j in pairs if (i < first) == side == (j < first)]) for side in (True, False)]
    across = np.mean([kernel[i, j] for i, j in pairs if i < first <= j])
    np.fill_diagonal(kernel, 0)
    statistic = drift._unbiased(kernel, (np.arange(11) < first)[:, None])[0]
    assert statistic == pytest.approx(sum(within) - 2 * across)


def test_each_kind_of_drift_is_found_alone():
    """Other embeddings, other classes and less confidence are each found by their test, and by no other."""
    limits = Limits()
    for name, changed in (
        ("embeddings", {"shift": 1.0}), ("classes", {"shares": (0.1, 0.9)}), ("confidence", {"sure": 0.7}),
    ):  # fmt: skip
        rng = generator(3)
        tests, _ = compare(outputs(rng, 150), outputs(rng, 60, **changed), 2, limits, 0.01)
        assert [test.name for test in tests if test.drifted] == [name]
    rng = generator(4)
    tests, _ = compare(outputs(rng, 150), outputs(rng, 60), 2, limits, 0.01)
    assert not any(test.drifted for test in tests)


@pytest.mark.slow
def test_a_significant_trifle_does_not_count(monkeypatch):
    """With many images a tiny shift is significant; below the limit of its size it is no drift."""
    monkeypatch.setattr(drift, "PERMUTATIONS", 399)
    rng = generator(5)
    tests, _ = compare(outputs(rng, 1500), outputs(rng, 1500, shift=0.15), 2, Limits(), 0.01)
    assert tests[0].corrected < 0.01
    assert tests[0].size < 0.65
    assert not tests[0].drifted


def test_the_odd_ones_stand_out():
    """The new images that are far from the whole reference have the largest dissimilarity."""
    rng = generator(6)
    new = rng.normal(size=(40, 8))
    new[[3, 17]] += 4
    *_, dissimilarity = compare_embeddings(rng.normal(size=(100, 8)), new, rng)
    assert set(np.argsort(-dissimilarity)[:2]) == {3, 17}


def test_sizes_have_their_textbook_values():
    """Total variation, drop of confidence and area under the curve equal values computed on paper."""
    assert compare_classes(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), 3, generator())[0] == 0.25
    assert compare_confidence(np.array([0.9, 0.7]), np.array([0.5, 0.5, 0.5]), generator())[0] == pytest.approx(0.3)
    assert drift._area(np.array([0.0, 1.0]), np.array([1.0, 2.0])) == pytest.approx(7 / 8)
    assert compare_embeddings(generator().normal(size=(30, 2)), generator().normal(size=(30, 2)) + 50, generator())[0] == 1.0


def test_degenerate_arrays():
    """Embeddings that are all equal, of one number, or of two images a side, give finite figures."""
    for reference, new in ((np.ones((5, 3)), np.ones((4, 3))), (np.ones((2, 1)), np.zeros((2, 1))), (np.eye(3), np.eye(3)[:2])):
        size, draw, discrepancy, dissimilarity = compare_embeddings(reference, new, generator())
        p = p_value(discrepancy, draw, 199)
        assert 0 <= size <= 1
        assert 0 < p <= 1
        assert np.isfinite(dissimilarity).all()


def test_the_p_value_is_the_share_of_permutations():
    """Of all permutations those count that are at least as large, the observed one among them; where many are, few are drawn."""
    drawn: list[int] = []

    def draw(size: int) -> np.ndarray:
        drawn.append(size)
        return np.arange(sum(drawn) - size, sum(drawn)) % 100

    assert p_value(97, draw, 499) == 15 / 500
    drawn.clear()
    assert p_value(50, draw, 10**6) == drift.ENOUGH / 70
    assert sum(drawn) < 300


def test_a_stricter_level_draws_more_permutations():
    """At the level of the last test of a busy month a difference is still significant: the smallest p-value is below it."""
    rng = generator(8)
    tests, _ = compare(outputs(rng, 60), outputs(rng, 30, shift=3.0), 2, Limits(), 1e-4)
    assert tests[0].drifted
    assert tests[0].corrected < 1e-4
