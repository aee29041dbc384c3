"""Images unlike the training images are told by their distance, and of images like them a stated share is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from darkroom.core.errors import ParamsError
from darkroom.models import abstention, mahalanobis
from darkroom.models.abstention import FEWEST, NO_DISTANCES, CalibrationDistances
from darkroom.models.mahalanobis import Mahalanobis
from darkroom.training import abstention as fitting
from darkroom.training.batches import Examples

DIM, CLASSES = 40, 3


def drawn(rng: np.random.Generator, count: int, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Return embeddings of images, which vary in some directions more than in others, and labels."""
    labels = np.arange(count) % CLASSES
    centres = np.random.default_rng(7).normal(3, 1, (CLASSES, DIM))
    return (centres[labels] + rng.normal(size=(count, DIM)) * np.linspace(1.5, 0.1, DIM) + shift).astype(np.float32), labels


def fitted(x: np.ndarray, y: np.ndarray) -> Mahalanobis:
    """Return the distance from embeddings alone."""
    return mahalanobis.fit([x], y, CLASSES)


@pytest.mark.parametrize(("images", "refuse"), [(10, 0.02), (30, 0.02), (60, 0.02), (60, 0.1)])
def test_the_stated_share_of_images_is_refused(images, refuse):
    """On average over draws of training and validation images the share of new images that is refused is the stated one, up to
    one image in N + 1 where the threshold is a rank, and up to a percent where it is fitted."""
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(60):
        distance = fitted(*drawn(rng, 90))
        threshold = CalibrationDistances.of(distance.measure(drawn(rng, images)[0])).threshold(refuse)
        assert threshold.is_fitted == (images < abstention.needed(refuse))
        new = distance.measure(drawn(rng, 300)[0])
        shares.append(np.mean([threshold.is_unknown(value) for value in new]))
    error = np.std(shares) / 60**0.5
    below, above = (0.01, 0.01) if images < abstention.needed(refuse) else (1 / (images + 1), 0)
    assert refuse - below - 4 * error <= np.mean(shares) <= refuse + above + 4 * error


def test_images_elsewhere_are_far():
    """The distance of images around another place is larger than that of nearly all new images like those of training, whatever
    the scale of their embeddings."""
    rng = np.random.default_rng(1)
    distance = fitted(*drawn(rng, 300))
    near, far = distance.measure(drawn(rng, 200)[0]), distance.measure(np.flip(drawn(rng, 200)[0], 1) * [[-1] + [1] * (DIM - 1)])
    assert np.quantile(near, 0.95) < np.quantile(far, 0.05)
    few, _ = drawn(rng, 5)
    assert np.allclose(distance.measure(7 * few), distance.measure(few), rtol=1e-3)


def test_it_is_the_distance_by_the_whole_covariance():
    """It equals the Mahalanobis distance by the matrix that the kept directions and the rest make up."""
    x, y = drawn(np.random.default_rng(3), 200)
    distance = fitted(x, y)
    axes, rest = distance.axes.double().numpy(), float(distance.rest)
    covariance = axes.T @ np.diag(distance.variances.double().numpy() - rest) @ axes + rest * np.eye(DIM)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    offsets = unit[:, None] - distance.means.double().numpy()
    squares = np.einsum("ncd,de,nce->nc", offsets, np.linalg.inv(covariance), offsets).min(1)
    assert np.allclose(distance.measure(x), np.sqrt(squares), rtol=1e-3)
    assert np.isclose(np.trace(covariance), (offsets[np.arange(200), y] ** 2).sum() / (200 - CLASSES), rtol=1e-3)


@pytest.mark.parametrize("case", ["equal images", "one image of a class", "no image of a class", "fewer images than directions"])
def test_distances_of_poor_data_are_numbers(case):
    """Whatever the training images are, distances are finite, and equal data give equal tensors."""
    x, y = drawn(np.random.default_rng(4), 12 if case == "fewer images than directions" else 60)
    if case == "equal images":
        x[:] = 1
    others = np.flatnonzero(y > 0)
    keep = {"no image of a class": others, "one image of a class": np.r_[0, others]}.get(case, np.arange(len(y)))
    first, second = (fitted(x[keep], y[keep]) for _ in range(2))
    assert np.isfinite(first.measure(np.concatenate([x, np.zeros((1, DIM), np.float32)]))).all()
    assert all(torch.equal(value, second.state_dict()[key]) for key, value in first.state_dict().items())


def test_the_decomposition_is_computed_in_one_thread(monkeypatch):
    """BLAS has one thread, and as many as before afterwards: beside other programs several wait for each other for seconds."""
    decompose, threads = np.linalg.svd, []

    def watched(*arguments, **options):
        threads.append(_blas_threads())
        return decompose(*arguments, **options)

    monkeypatch.setattr(np.linalg, "svd", watched)
    with threadpool_limits(2, "blas"):
        mahalanobis.fit([np.random.default_rng(0).normal(size=(20, 8))], np.arange(20) % 2, 2)
        after = _blas_threads()
    assert threads == [{1}]
    assert after == {2}


def _blas_threads():
    return {library["num_threads"] for library in threadpool_info() if library["internal_api"] == "openblas"}


def test_a_share_that_cannot_be_refused():
    """It is refused with a remedy; too few validation images, or some without a distance, give no abstention; 0 refuses none."""
    calibration = CalibrationDistances.of(np.arange(1.0, 60))
    assert calibration.threshold(0) is None
    assert NO_DISTANCES.default(0.02) is None
    assert CalibrationDistances.of(np.ones(FEWEST - 1), 7).steps == 7  # what the weights were fitted with
    assert CalibrationDistances.of(np.ones(FEWEST - 1)) == CalibrationDistances.of(np.array([1.0] * 50 + [np.nan])) == NO_DISTANCES
    assert calibration.threshold(0.02).is_unknown(float("nan"))
    for refused, share, fact in [(calibration, 1.0, "0.02"), (calibration, -0.1, "0.02"), (NO_DISTANCES, 0.02, "dvc repro")]:
        with pytest.raises(ParamsError) as error:
            refused.threshold(share)
        assert fact in error.value.remedy


def test_very_many_images_are_thinned(monkeypatch):
    """Of more images than MAX_IMAGES and distances than MAX_DISTANCES evenly drawn ones are taken, one of each class among them,
    and the threshold hardly changes."""
    rng = np.random.default_rng(5)
    (x, y), (val, val_y) = drawn(rng, 3000), drawn(rng, 2000)
    y[y == 0] = 1
    y[5] = 0
    arguments = (lambda rows: [rows[:]], Examples(x[None], y), Examples(val[None], val_y), CLASSES, 0)
    _, unlimited = fitting.fit(*arguments)
    monkeypatch.setattr(fitting, "MAX_IMAGES", 500)
    monkeypatch.setattr(abstention, "MAX_DISTANCES", 200)
    distance, few = fitting.fit(*arguments)
    assert len(few.distances) == 200
    assert torch.isfinite(distance.means).all()
    assert few.threshold(0.1).distance == pytest.approx(unlimited.threshold(0.1).distance, rel=0.1)
