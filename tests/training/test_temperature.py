"""Temperature scaling."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from darkroom.training import temperature


def examples(seed: int, count: int = 400, classes: int = 5, spread: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Return logits and labels drawn from their softmax: temperature 1 suits them."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(size=(count, classes)) * spread
    return logits.astype(np.float32), (logits + draw.gumbel(size=logits.shape)).argmax(1)


def loss(logits: np.ndarray, labels: np.ndarray, by: float) -> float:
    """Return the log loss at a temperature against targets of (N + ½) / (N + 1), written out."""
    count = len(logits)
    targets = np.zeros(logits.shape)
    for i, label in enumerate(labels):
        targets[i, label] = (count + 0.5) / (count + 1)
        other = max((c for c in range(logits.shape[1]) if c != label), key=lambda c: logits[i, c])
        targets[i, other] = 0.5 / (count + 1)
    scaled = logits.astype(np.float64) / by
    return float((np.logaddexp.reduce(scaled, 1) - (targets * scaled).sum(1)).mean())


@pytest.mark.slow
@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(2, 8), st.sampled_from([0.01, 0.5, 3.0, 50.0]))
def test_no_other_temperature_has_a_lower_loss(seed, count, classes, scale):
    """Over a grid of temperatures within the bounds none beats the fitted one, however many images are right."""
    draw = np.random.default_rng(seed)
    logits, labels = draw.normal(size=(count, classes)) * scale, draw.integers(0, classes, count)
    fitted = temperature.fit(logits, labels)
    low, high = temperature.BOUNDS
    assert low <= fitted <= high
    assert loss(logits, labels, fitted) <= min(loss(logits, labels, by) for by in np.geomspace(low, high, 200)) + 1e-9


def test_it_is_the_minimum_that_scipy_finds():
    """The same minimum comes out of a search without derivatives."""
    logits, labels = examples(3)
    expected = minimize_scalar(lambda t: loss(logits, labels, np.exp(t)), bounds=(-3, 3), method="bounded", options={"xatol": 1e-9})
    assert temperature.fit(logits, labels) == pytest.approx(np.exp(expected.x), rel=1e-5)


def test_it_undoes_a_scale():
    """Logits that are k times too large get k times the temperature; of calibrated ones it is near 1."""
    logits, labels = examples(0, 4000)
    plain = temperature.fit(logits, labels)
    assert plain == pytest.approx(1, abs=0.1)
    assert temperature.fit(logits * 7, labels) == pytest.approx(7 * plain, rel=1e-4)


def test_extremes_stay_finite(recwarn):
    """All right, all wrong, one image, equal logits, huge ones, and such as are no numbers give a
    temperature, and no warning.
    """
    labels = np.arange(20) % 4
    right = np.eye(4)[labels] * 8
    certain = temperature.fit(right, labels)
    assert 1 / (1 + 3 * np.exp(-8 / certain)) == pytest.approx(20.5 / 21, rel=1e-4)
    assert temperature.fit(right, (labels + 1) % 4) == temperature.BOUNDS[1]
    assert temperature.fit(right * 1e6, labels) == temperature.BOUNDS[1]
    assert temperature.fit(right * 1e-6, labels) == temperature.BOUNDS[0]
    assert temperature.fit(np.zeros((5, 3)), np.zeros(5, int)) == 1
    assert temperature.fit(np.full((5, 3), np.nan), np.zeros(5, int)) == 1
    assert temperature.fit(np.ones((5, 1)), np.zeros(5, int)) == 1
    assert 0.05 <= temperature.fit(np.array([[1.0, 2.0]]), np.array([1])) <= 20
    assert not recwarn
