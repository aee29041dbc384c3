"""The order in which images are worth a label."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from darkroom.labelling import active_learning, arrivals


def test_margins_are_the_lead_of_the_first_class():
    """Small where two classes are as probable; 1 with one class."""
    assert active_learning.margins(np.array([[0.5, 0.4, 0.1], [0.1, 0.8, 0.1]])).round(6).tolist() == [0.1, 0.7]
    assert active_learning.margins(np.ones((2, 1))).tolist() == [1, 1]


NONE = np.empty((0, 8), np.float32)


def test_uncertain_images_that_differ_are_chosen():
    """Of three clusters of uncertain images one each, that of the largest first; what the model is sure of is not among them."""
    rng = np.random.default_rng(0)
    kinds = np.repeat([0, 1, 2, 3], [40, 20, 30, 30])
    clusters = np.eye(4, 8, dtype=np.float32)[kinds] + rng.normal(0, 0.05, (120, 8)).astype(np.float32)
    probabilities = np.where((kinds == 3)[:, None], [[0.98, 0.01, 0.01]], [[0.4, 0.35, 0.25]])
    chosen = active_learning.choose(probabilities, clusters, 9, NONE)
    assert kinds[chosen][:3].tolist() == [0, 2, 1]
    assert 3 not in kinds[chosen]
    assert len(set(chosen)) == 9


def test_what_has_a_label_covers_what_is_like_it(monkeypatch):
    """The next image is of another kind; a lone uncertain image is worth less than one among many like it."""
    monkeypatch.setattr(active_learning, "POOL", 58)
    rng = np.random.default_rng(0)
    kinds = np.repeat([0, 1, 2, 3], [20, 19, 18, 1])
    rows = np.eye(4, 8, dtype=np.float32)[kinds] + rng.normal(0, 0.05, (58, 8)).astype(np.float32)
    probabilities = np.tile([0.4, 0.35, 0.25], (58, 1))
    assert kinds[active_learning.choose(probabilities, rows, 1, NONE)].tolist() == [0]
    assert kinds[active_learning.choose(probabilities, rows, 1, rows[:1])].tolist() == [1]
    assert kinds[active_learning.order(probabilities, rows, 3, rows[:1], batch=1)].tolist()[:2] == [1, 2]
    assert kinds[active_learning.order(probabilities, rows, 4)].tolist() == [0, 1, 2, 3]


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


def test_many_images_are_covered_by_a_sample(monkeypatch):
    """Beyond `MOST` images some are left out of what is to be covered, and none of what can be chosen."""
    monkeypatch.setattr(active_learning, "MOST", 10)
    rng = np.random.default_rng(0)
    order = active_learning.order(rng.dirichlet(np.ones(4), 60), rng.normal(size=(60, 8)).astype(np.float32), 60)
    assert sorted(order) == list(range(60))


def test_labels_of_the_inbox_count(monkeypatch):
    """Images with labels are not shown again, and what is like them comes after what is not."""
    monkeypatch.setattr(active_learning, "POOL", 40)
    kinds = np.repeat([0, 1, 2], [16, 14, 10])
    rows = np.eye(3, 8, dtype=np.float32)[kinds] + np.random.default_rng(0).normal(0, 0.05, (40, 8)).astype(np.float32)
    paths = [f"{kind}/{i}.png" for i, kind in enumerate(kinds)]
    incoming = arrivals.Arrivals(Path("new"), ("a", "b", "c"), paths, np.tile([0.4, 0.35, 0.25], (40, 1)), rows, {})
    assert [item.path[0] for item in arrivals.queue(incoming, {}, 3).items] == ["0", "1", "2"]
    shown = [item.path for item in arrivals.queue(incoming, {paths[0]: "a", paths[20]: "b"}, 40).items]
    assert shown[0][0] == "2"
    assert sorted(shown) == sorted(set(paths) - {paths[0], paths[20]})
