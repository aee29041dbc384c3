"""The order in which images are worth a label."""

from __future__ import annotations

import numpy as np

from darkroom.labelling import active_learning


def test_margins_are_the_lead_of_the_first_class():
    """Small where two classes are as probable; 1 with one class."""
    assert active_learning.margins(np.array([[0.5, 0.4, 0.1], [0.1, 0.8, 0.1]])).round(6).tolist() == [0.1, 0.7]
    assert active_learning.margins(np.ones((2, 1))).tolist() == [1, 1]


def test_centres_differ_from_each_other_and_from_what_has_labels():
    """Of three clusters one image each, the one whose neighbour has a label last; copies are not chosen twice."""
    clusters = np.repeat(np.array([[0, 0], [10, 0], [0, 11]], np.float32), 4, 0)
    assert sorted(i // 4 for i in active_learning.centres(clusters, 3)) == [0, 1, 2]
    chosen = active_learning.centres(clusters, 2, np.array([[0, 0.1]], np.float32))
    assert [i // 4 for i in chosen] == [2, 1]
    assert sorted(active_learning.centres(clusters, 20)) == list(range(12))


def test_an_order_names_each_image_once():
    """As many as there are, or as are asked for, and the first ones are among the uncertain ones."""
    rng = np.random.default_rng(0)
    probabilities, embeddings = rng.dirichlet(np.ones(4), 100), rng.normal(size=(100, 8)).astype(np.float32)
    order = active_learning.order(probabilities, embeddings, 1_000, np.empty((0, 8), np.float32), batch=7)
    assert sorted(order) == list(range(100))
    uncertain = set(np.argsort(active_learning.margins(probabilities))[: 7 * active_learning.SPREAD].tolist())
    assert set(order[:7]) <= uncertain
    assert active_learning.order(probabilities, embeddings, 5, embeddings[:3]) == active_learning.order(
        probabilities, embeddings, 5, embeddings[:3]
    )
