"""The map of test images by their embeddings."""

from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from darkroom.evaluation import embedding_map


def clusters(count: int, groups: int = 3, dimensions: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Return embeddings (N, D) in separate groups, and the group of each."""
    rng = np.random.default_rng(0)
    group = np.arange(count) % groups
    return (20 * rng.normal(size=(groups, dimensions))[group] + rng.normal(size=(count, dimensions))).astype(np.float32), group


@pytest.mark.parametrize("count", [embedding_map.FEW, 90])
def test_neighbours_stay_neighbours(count):
    """The nearest image on the map is of the same group, by PCA and by t-SNE, and all places are in the square."""
    embeddings, group = clusters(count)
    placed = embedding_map.project(np.arange(count), embeddings)
    assert ("t-SNE" in placed.method) == (count > embedding_map.FEW)
    assert placed.places.min() >= 0
    assert placed.places.max() <= embedding_map.SIDE
    distances = np.linalg.norm(placed.places[:, None] - placed.places[None], axis=2) + 1e9 * np.eye(count)
    assert (group[distances.argmin(1)] == group).all()


def test_equal_embeddings_give_an_equal_map(monkeypatch):
    """The map is the same each time, since one thread adds up, however many there are."""
    threads = []

    class Watched(embedding_map.TSNE):
        def fit_transform(self, X, y=None):  # noqa: N803
            threads.extend(library["num_threads"] for library in threadpool_info())
            return super().fit_transform(X, y)

    monkeypatch.setattr(embedding_map, "TSNE", Watched)
    embeddings, _ = clusters(120)
    with threadpool_limits(2):
        first, second = (embedding_map.project(np.arange(120), embeddings).places for _ in range(2))
    assert (first == second).all()
    assert set(threads) == {1}


def test_embeddings_without_a_direction_have_a_map():
    """Of equal embeddings all images are in one place; fewer than five images have no map."""
    placed = embedding_map.project(np.arange(40), np.ones((40, 8), np.float32))
    assert len(np.unique(placed.places, axis=0)) == 1
    assert embedding_map.project(np.arange(4), np.eye(4, dtype=np.float32)) is None
