"""The order in which images are worth a label."""

from __future__ import annotations

import numpy as np

from darkroom.labelling import active_learning


def test_margins_are_the_lead_of_the_first_class():
    """Small where two classes are as probable; 1 with one class."""
    assert active_learning.margins(np.array([[0.5, 0.4, 0.1], [0.1, 0.8, 0.1]])).round(6).tolist() == [0.1, 0.7]
    assert active_learning.margins(np.ones((2, 1))).tolist() == [1, 1]


def test_uncertain_images_that_differ_are_chosen():
    """Of three clusters of uncertain images one each; what the model is sure of is not among them."""
    rng = np.random.default_rng(0)
    clusters = np.repeat(np.eye(4, 8, dtype=np.float32), 30, 0) + rng.normal(0, 0.05, (120, 8)).astype(np.float32)
    sure = np.repeat([False, False, False, True], 30)
    probabilities = np.where(sure[:, None], [[0.98, 0.01, 0.01]], [[0.4, 0.35, 0.25]])
    chosen = active_learning.choose(probabilities, clusters, 9, np.random.default_rng(1))
    assert sorted({i // 30 for i in chosen}) == [0, 1, 2]
    assert len(set(chosen)) == 9


def test_an_order_names_each_image_once():
    """As many as there are, or as are asked for, the same each time, and the first ones are among the uncertain ones."""
    rng = np.random.default_rng(0)
    probabilities, embeddings = rng.dirichlet(np.ones(4), 100), rng.normal(size=(100, 8)).astype(np.float32)
    order = active_learning.order(probabilities, embeddings, 1_000, batch=7)
    assert sorted(order) == list(range(100))
    uncertain = set(np.argsort(active_learning.margins(probabilities))[: 7 * active_learning.POOL].tolist())
    assert set(order[:7]) <= uncertain
    assert active_learning.order(probabilities, embeddings, 7, batch=7) == order[:7]
    same = np.ones((5, 3), np.float32)  # copies, of which a model is certain
    assert sorted(active_learning.order(np.tile([1.0, 0.0], (5, 1)), same, 5)) == [0, 1, 2, 3, 4]
    assert active_learning.order(np.empty((0, 4)), np.empty((0, 8)), 5) == []
