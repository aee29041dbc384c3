"""Robustness, slices, ensembles and mistakes: what must hold, also for a handful of images."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from darkroom.evaluation import ensembles, mistakes, robustness, slices

CLASSES = ("a", "b", "c")
pytestmark = pytest.mark.filterwarnings("error")  # a user's terminal shows none
rng = np.random.default_rng(0)


def named(count: int) -> list[dict]:
    return [{"path": f"x/{i:03}.png", "sha256": f"{i:064}", "width": 8, "height": 8, "flags": ""} for i in range(count)]


def said(right: np.ndarray, labels: np.ndarray, classes: int = 3) -> np.ndarray:
    """Return probabilities whose largest is of the label where `right`, else of the next class."""
    made = np.full((len(labels), classes), 0.1)
    made[np.arange(len(labels)), np.where(right, labels, (labels + 1) % classes)] = 1.0
    return made / made.sum(1, keepdims=True)


def test_the_corruption_error_is_the_papers():
    """The mean over corruptions and severities, and the mean of each corruption's sum over the reference's (mCE)."""
    labels = np.zeros(10, int)
    share = {"fog": [0.9, 0.5], "jpeg": [1.0, 0.8]}

    def corrupted(images, name):
        return [np.full((10, 1), value) for value in share[name]]

    def model(images):
        return np.stack([np.arange(10) < round(10 * images[0, 0]), np.full(10, 0.5)], 1)

    def reference(images):
        return np.stack([np.arange(10) < 5, np.full(10, 0.5)], 1)

    found = robustness.measure(np.ones((10, 1)), labels, model, reference, {"fog": "weather", "jpeg": "digital"}, corrupted)
    assert found["accuracy"] == 1
    assert found["corruptions"]["fog"] == {"kind": "weather", "accuracy": [0.9, 0.5], "reference": [0.5, 0.5]}
    assert found["corruption_error"] == pytest.approx((0.1 + 0.5 + 0 + 0.2) / 4)
    assert found["relative_corruption_error"] == pytest.approx((0.6 / 1 + 0.2 / 1) / 2)
    perfect = robustness.measure(np.ones((10, 1)), labels, model, lambda x: np.eye(2)[labels], {"fog": "weather"}, corrupted)
    assert perfect["relative_corruption_error"] is None


def test_a_sample_is_drawn_from_the_seed():
    """At most so many images, in their order, the same for the same seed."""
    assert robustness.sample(5, 10, 0).tolist() == [0, 1, 2, 3, 4]
    chosen = robustness.sample(100, 10, 3)
    assert len(set(chosen.tolist())) == 10
    assert sorted(chosen.tolist()) == chosen.tolist() == robustness.sample(100, 10, 3).tolist()


def test_intervals_are_wilsons():
    """The interval is scipy's, for every count up to 30, and whole where there is nothing."""
    for count in range(1, 31):
        for won in range(count + 1):
            expected = binomtest(won, count).proportion_ci(0.95, "wilson")
            assert slices.wilson(won / count, count) == pytest.approx((expected.low, expected.high), abs=1e-6)
    assert slices.wilson(0, 0) == (0, 1)


def test_the_worst_slice_comes_first_and_stays_significant():
    """A column on which a model's errors depend is found among columns of noise, and these are not called significant."""
    count = 400
    dark = rng.random(count) < 0.25
    right = np.where(dark, rng.random(count) < 0.6, rng.random(count) < 0.95)
    values = {"dark": dark.tolist(), **{f"noise {i}": rng.random(count).tolist() for i in range(8)}}
    found = slices.measure(right, values, rng.integers(0, 3, count), np.arange(count))
    assert (found[0]["column"], found[0]["value"]) == ("dark", "yes")
    assert found[0]["p_holm"] < 0.001
    assert found[0]["images"] == dark.sum()
    assert found[0]["accuracy"] == right[dark].mean()
    assert found[0]["low"] < found[0]["accuracy"] < found[0]["high"]
    assert all(made["p_holm"] > 0.05 for made in found if made["column"].startswith("noise"))
    assert sum(made["images"] for made in found if made["column"] == "noise 0") == count


def test_slices_need_images_and_say_more_than_the_class():
    """Rare values, a column with one value, and a folder per class make no slices; unknown columns are taken as they are."""
    labels = np.repeat([0, 1], 50)
    rows = [row | {"camera": "old" if i % 2 else "new", "path": f"{'ab'[label]}/{i}.png"} for i, (row, label) in
            enumerate(zip(named(100), labels, strict=True))]  # fmt: skip
    columns = slices.columns(rows, np.linspace(0, 255, 100).tolist()) | {"rare": ["x"] * 99 + ["y"], "gone": [math.nan] * 100}
    found = slices.measure(np.arange(100) % 2 == 0, columns, labels, np.arange(100))
    assert [(made["value"], made["accuracy"]) for made in found if made["column"] == "camera"] == [("old", 0), ("new", 1)]
    assert {made["column"] for made in found} == {"camera", "brightness"}


def test_many_groups_are_no_slices_and_cost_no_time():
    """Ten thousand images of ten thousand groups are looked at at once."""
    count = 10_000
    values = {"group": [str(i) for i in range(count)]}
    assert slices.measure(np.ones(count, bool), values, np.arange(count) % 2, np.arange(count)) == []
    assert "group" not in slices.columns([row | {"group": "x"} for row in named(3)], [1, 2, 3])


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([*range(52), *[500] * 300], {"below 500": 52, "500": 300}),
        ([*[500] * 300, *range(1000, 1052)], {"above 500": 52, "500": 300}),
        ([*range(52), *[500] * 300, *range(1000, 1052)], {"below 500": 52, "500": 300, "above 500": 52}),
        ([*range(100), *[500] * 80], {"0 to below 44.75": 45, "44.75 to below 89.5": 45, "500": 80}),
        (range(100), {"0 to below 24.75": 25, "24.75 to below 49.5": 25, "49.5 to below 74.25": 25, "74.25 to 99": 25}),
    ],
)  # fmt: skip
def test_a_number_that_most_images_have_is_a_slice(numbers, expected):
    """Quartiles that coincide hide neither the images that have this value, nor those below or above it."""
    numbers = list(numbers)
    labels, groups = rng.integers(0, 3, len(numbers)), np.arange(len(numbers))
    found = slices.measure(np.ones(len(numbers), bool), {"size": numbers}, labels, groups)
    assert {made["value"]: made["images"] for made in found} == expected


def test_copies_make_no_slice_surer():
    """Interval and p of images that are there five times are those of the images once; ten groups are no slice, however large."""
    right, labels, groups = rng.random(200) < 0.8, rng.integers(0, 3, 200), np.arange(200)
    dark = rng.random(200) < 0.4
    once = slices.measure(right, {"dark": dark.tolist()}, labels, groups)
    often = slices.measure(right.repeat(5), {"dark": dark.repeat(5).tolist()}, labels.repeat(5), groups.repeat(5))
    assert len(once) == 2
    for one, two in zip(once, often, strict=True):
        assert two == pytest.approx(one | {"images": 5 * one["images"]})
    assert slices.measure(right, {"dark": (groups < 100).tolist()}, labels, groups // 10) == []


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("classes", [2, 100])
def test_all_right_and_all_wrong(right, classes):
    """No mistake, or nothing but mistakes, with a class that is missing and one that is never predicted: figures, no warning."""
    labels = np.arange(60) % (classes - 1)
    answers = {name: said(np.full(60, right), labels, classes) for name in ("one", "two")}
    names = tuple(map(str, range(classes)))
    lost, always = mistakes.always_wrong(answers, labels, named(60), names)
    assert lost == (0 if right else 60)
    assert len(always) == min(lost, mistakes.MOST)
    assert bool(mistakes.surest(answers["one"], labels, named(60), names)) != right
    assert bool(mistakes.confused(answers["one"].argmax(1), labels, names)) != right
    found = slices.measure(np.full(60, right), slices.columns(named(60), list(range(60))), labels, np.arange(60))
    assert all(made["accuracy"] == right and made["p_holm"] == 1 for made in found)
    assert ensembles.greedy(answers, labels) == {"one": 1}


def test_the_surest_mistake_comes_first():
    """Mistakes are in the order of their confidence, of equals of their paths; right answers are not among them."""
    labels = np.array([0, 1, 2, 0])
    given = np.array([[0.9, 0.1, 0], [0.8, 0.2, 0], [0, 0.95, 0.05], [0.2, 0.8, 0]])
    found = mistakes.surest(given, labels, named(4), CLASSES)
    assert [row["path"] for row in found] == ["x/002.png", "x/001.png", "x/003.png"]
    assert found[0] == {
        "path": "x/002.png", "sha256": f"{2:064}", "label": "c", "predicted": "b", "confidence": 0.95, "given": 0.05,
    }  # fmt: skip


def test_confused_pairs_count_both_ways():
    """A pair is named once, with how often either was taken for the other; the confusion matrix says the same."""
    labels = np.array([0, 0, 1, 1, 2, 2])
    predicted = np.array([1, 1, 0, 1, 1, 2])
    found = mistakes.confused(predicted, labels, CLASSES)
    assert found[0] == {"classes": ["a", "b"], "count": 3, "first_as_second": 2, "second_as_first": 1, "share": 0.75}
    assert found[1]["classes"] == ["b", "c"]
    assert (found[1]["first_as_second"], found[1]["second_as_first"]) == (0, 1)


def test_an_image_that_one_model_gets_right_is_not_always_wrong():
    """Only what no model gets right counts, with each model's answer."""
    labels = np.array([0, 1, 2])
    answers = {"one": said(np.array([True, False, False]), labels), "two": said(np.array([False, False, True]), labels)}
    lost, found = mistakes.always_wrong(answers, labels, named(3), CLASSES)
    assert lost == 1
    assert (found[0]["path"], found[0]["predicted"], found[0]["agree"]) == ("x/001.png", "c", 2)
    assert set(found[0]["models"]) == {"one", "two"}


def test_greedy_selection_never_loses_on_validation():
    """The bag's log loss is not above that of the best single model, it begins with that one, and a useless model stays out."""
    labels = rng.integers(0, 3, 200)
    answers = {f"m{i}": said(rng.random(200) < 0.8, labels) for i in range(4)} | {"worst": said(rng.random(200) < 0.1, labels)}

    def loss(given):
        return -np.log(given[np.arange(200), labels]).mean()

    bag = ensembles.greedy(answers, labels)
    assert "worst" not in bag
    assert loss(ensembles.mean(answers, bag)) <= min(map(loss, answers.values())) + 1e-12
    assert min(answers, key=lambda name: loss(answers[name])) in bag
    assert ensembles.greedy(dict(reversed(answers.items())), labels) == bag


def test_the_mean_is_of_probabilities():
    """Weights are shares: rows still sum to one, and equal weights give the plain mean."""
    answers = {name: said(rng.random(9) < 0.5, np.arange(9) % 3) for name in "ab"}
    assert np.allclose(ensembles.mean(answers, {"a": 1, "b": 1}), (answers["a"] + answers["b"]) / 2)
    assert np.allclose(ensembles.mean(answers, {"a": 3, "b": 1}).sum(1), 1)
    assert np.allclose(ensembles.mean(answers, {"b": 2}), answers["b"])
