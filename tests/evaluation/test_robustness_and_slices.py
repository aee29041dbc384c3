"""Robustness, slices, ensembles and mistakes, also for a handful of images."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest, fisher_exact

from darkroom.evaluation import ensembles, mistakes, robustness, significance, slices

CLASSES = ("a", "b", "c")
pytestmark = pytest.mark.filterwarnings("error")  # a user's terminal shows none
rng = np.random.default_rng(0)


def named(count: int) -> list[dict]:
    return [{"path": f"x/{i:03}.png", "sha256": f"{i:064}", "width": 8, "height": 8, "flags": ()} for i in range(count)]


def probabilities(correct: np.ndarray, labels: np.ndarray, classes: int = 3) -> np.ndarray:
    """Return probabilities whose largest is of the label where `correct`, else of the next class."""
    values = np.full((len(labels), classes), 0.1)
    values[np.arange(len(labels)), np.where(correct, labels, (labels + 1) % classes)] = 1.0
    return values / values.sum(1, keepdims=True)


def test_the_corruption_error_is_the_papers():
    """The mean over corruptions and severities, and the mean of each corruption's sum over the pixel
    baseline's (mCE)."""
    labels = np.zeros(10, int)
    share = {"fog": [0.9, 0.5], "jpeg": [1.0, 0.8]}

    def corrupted(images, name):
        return [np.full((10, 1), value) for value in share[name]]

    def model(images):
        return np.stack([np.arange(10) < round(10 * images[0, 0]), np.full(10, 0.5)], 1)

    def baseline(images):
        return np.stack([np.arange(10) < 5, np.full(10, 0.5)], 1)

    measured = robustness.measure(np.ones((10, 1)), labels, model, baseline, {"fog": "weather", "jpeg": "digital"}, corrupted)
    assert measured.accuracy == 1
    fog = measured.corruptions["fog"]
    assert (fog.kind, fog.accuracy, fog.pixel_baseline) == ("weather", [0.9, 0.5], [0.5, 0.5])
    assert measured.corruption_error == pytest.approx((0.1 + 0.5 + 0 + 0.2) / 4)
    assert measured.mean_corruption_error == pytest.approx((0.6 / 1 + 0.2 / 1) / 2)
    perfect = robustness.measure(np.ones((10, 1)), labels, model, lambda x: np.eye(2)[labels], {"fog": "weather"}, corrupted)
    assert perfect.mean_corruption_error is None


def test_a_sample_is_drawn_from_the_seed():
    """At most the requested number of images, in their order, the same for the same seed."""
    assert robustness.sample(5, 10, 0).tolist() == [0, 1, 2, 3, 4]
    chosen = robustness.sample(100, 10, 3)
    assert len(set(chosen.tolist())) == 10
    assert sorted(chosen.tolist()) == chosen.tolist() == robustness.sample(100, 10, 3).tolist()


def test_intervals_are_wilsons():
    """The interval is SciPy's for every count up to 20, and 0 to 1 for a count of 0."""
    for count in range(1, 21):
        for won in range(count + 1):
            expected = binomtest(won, count).proportion_ci(0.95, "wilson")
            assert significance.wilson(won / count, count) == pytest.approx((expected.low, expected.high), abs=1e-6)
    assert significance.wilson(0, 0) == (0, 1)


def test_the_worst_slice_comes_first_and_is_significant():
    """A column on which errors depend comes before columns of noise, and these are not significant."""
    count = 400
    dark = rng.random(count) < 0.25
    correct = np.where(dark, rng.random(count) < 0.6, rng.random(count) < 0.95)
    values = {"dark": dark.tolist(), **{f"noise {i}": rng.random(count).tolist() for i in range(8)}}
    rows = slices.measure(correct, values, rng.integers(0, 3, count), np.arange(count))
    assert (rows[0].column, rows[0].value) == ("dark", "yes")
    assert rows[0].p_holm < 0.001
    assert rows[0].images == dark.sum()
    assert rows[0].accuracy == correct[dark].mean()
    assert rows[0].low < rows[0].accuracy < rows[0].high
    assert all(item.p_holm > 0.05 for item in rows if item.column.startswith("noise"))
    assert sum(item.images for item in rows if item.column == "noise 0") == count


@pytest.mark.slow
def test_a_hard_class_makes_no_slice_of_its_images():
    """Where only one class is hard, and its images are the dark ones, brightness is flagged no more often than by chance;
    where dark images are hard in every class, it is flagged."""
    flagged = {"class": 0, "dark": 0}
    for seed in range(40):
        rng = np.random.default_rng(seed)
        labels = rng.integers(0, 4, 400)
        brightness = rng.normal(100 - 40 * (labels == 0), 30)
        dark = brightness < np.quantile(brightness, 0.25)
        for cause, hard in (("class", labels == 0), ("dark", dark)):
            correct = rng.random(400) > np.where(hard, 0.4, 0.05)
            rows = slices.measure(correct, {"brightness": brightness.tolist()}, labels, np.arange(400))
            flagged[cause] += any(row.p_holm < 0.05 for row in rows)
    assert flagged["class"] <= 5
    assert flagged["dark"] == 40


def test_one_class_has_fishers_test():
    """With one class the p-value is that of Fisher's exact test, and the rest is the accuracy of the others."""
    rng = np.random.default_rng(3)
    correct, inside = rng.random(90) < 0.7, np.arange(90) < 40
    (row, other) = slices.measure(correct, {"dark": inside.tolist()}, np.zeros(90, int), np.arange(90))
    table = [[int(correct[part].sum()), int((~correct[part]).sum())] for part in (inside, ~inside)]
    assert (row.p, other.p) == pytest.approx((fisher_exact(table).pvalue,) * 2)
    assert row.rest == pytest.approx(other.accuracy)


def test_a_class_without_an_independent_image_decides_nothing():
    """A class that counts as less than half an image on both sides, since all images are copies, changes no p-value."""
    labels = np.arange(2000) % 2
    groups, inside = np.arange(2000) // 20, np.arange(2000) < 1000
    correct = np.random.default_rng(0).random(2000) < 0.8
    rare_labels, rare_correct = labels.copy(), correct.copy()
    rare_labels[[0, 1500]], rare_correct[[0, 1500]] = 2, True
    rows = slices.measure(rare_correct, {"dark": inside.tolist()}, rare_labels, groups)
    usual = slices.measure(correct, {"dark": inside.tolist()}, labels, groups)
    assert len(rows) == 2
    assert [row.p for row in rows] == pytest.approx([row.p for row in usual], abs=0.2)
    assert all(row.p > 0.05 for row in rows)


def test_slices_need_images_and_differ_from_classes():
    """Rare values, a column with one value, and a folder per class make no slices; unknown columns are used
    unchanged."""
    labels = np.repeat([0, 1], 50)
    rows = [row | {"camera": "old" if i % 2 else "new", "path": f"{'ab'[label]}/{i}.png"} for i, (row, label) in
            enumerate(zip(named(100), labels, strict=True))]  # fmt: skip
    columns = slices.columns(rows, np.linspace(0, 255, 100).tolist()) | {"rare": ["x"] * 99 + ["y"], "gone": [math.nan] * 100}
    rows = slices.measure(np.arange(100) % 2 == 0, columns, labels, np.arange(100))
    assert [(item.value, item.accuracy) for item in rows if item.column == "camera"] == [("old", 0), ("new", 1)]
    assert {item.column for item in rows} == {"camera", "brightness"}


def test_unique_values_are_no_slices_and_take_no_time():
    """Ten thousand values of ten thousand images are not tested one by one."""
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
def test_a_frequent_number_is_a_slice(numbers, expected):
    """Where quartiles coincide, the images with this value are a slice, and so are those below and above
    it."""
    numbers = list(numbers)
    labels, groups = rng.integers(0, 3, len(numbers)), np.arange(len(numbers))
    rows = slices.measure(np.ones(len(numbers), bool), {"size": numbers}, labels, groups)
    assert {item.value: item.images for item in rows} == expected


def test_copies_do_not_narrow_the_intervals_of_slices():
    """Interval and p of images that are repeated five times are those of the images once; ten groups are no
    slice."""
    correct, labels, groups = rng.random(200) < 0.8, rng.integers(0, 3, 200), np.arange(200)
    dark = rng.random(200) < 0.4
    once = slices.measure(correct, {"dark": dark.tolist()}, labels, groups)
    often = slices.measure(correct.repeat(5), {"dark": dark.repeat(5).tolist()}, labels.repeat(5), groups.repeat(5))
    assert len(once) == 2
    for one, two in zip(once, often, strict=True):
        assert two.model_dump() == pytest.approx(one.model_dump() | {"images": 5 * one.images})
    assert slices.measure(correct, {"dark": (groups < 100).tolist()}, labels, groups // 10) == []


@pytest.mark.parametrize("correct", [True, False])
@pytest.mark.parametrize("classes", [2, 100])
def test_all_correct_and_all_wrong(correct, classes):
    """No mistake, or only mistakes, with a missing class and one that is never predicted: figures, no
    warning."""
    labels = np.arange(60) % (classes - 1)
    models = {name: probabilities(np.full(60, correct), labels, classes) for name in ("one", "two")}
    names = tuple(map(str, range(classes)))
    lost, always = mistakes.always_wrong(models, labels, named(60), names)
    assert lost == (0 if correct else 60)
    assert len(always) == min(lost, mistakes.MOST)
    assert bool(mistakes.surest(models["one"], labels, named(60), names)) != correct
    assert bool(mistakes.confused(models["one"].argmax(1), labels, names)) != correct
    rows = slices.measure(np.full(60, correct), slices.columns(named(60), list(range(60))), labels, np.arange(60))
    assert all(item.accuracy == correct and item.p_holm == 1 for item in rows)
    assert ensembles.greedy(models, labels) == {"one": 1}


def test_the_most_confident_mistake_comes_first():
    """Mistakes are in the order of their confidence, of equals of their paths; correct predictions are not
    among them."""
    labels = np.array([0, 1, 2, 0])
    values = np.array([[0.9, 0.1, 0], [0.8, 0.2, 0], [0, 0.95, 0.05], [0.2, 0.8, 0]])
    rows = mistakes.surest(values, labels, named(4), CLASSES)
    assert [row.path for row in rows] == ["x/002.png", "x/001.png", "x/003.png"]
    assert rows[0].model_dump() == {
        "path": "x/002.png", "sha256": f"{2:064}", "label": "c", "predicted": "b", "confidence": 0.95, "label_probability": 0.05,
    }  # fmt: skip


def test_confused_pairs_count_both_ways():
    """A pair is listed once, with the counts of either direction."""
    labels = np.array([0, 0, 1, 1, 2, 2])
    predicted = np.array([1, 1, 0, 1, 1, 2])
    rows = mistakes.confused(predicted, labels, CLASSES)
    assert rows[0].model_dump() == {"classes": ("a", "b"), "count": 3, "first_as_second": 2, "second_as_first": 1, "share": 0.75}
    assert rows[1].classes == ("b", "c")
    assert (rows[1].first_as_second, rows[1].second_as_first) == (0, 1)


def test_an_image_that_one_model_classifies_correctly_is_not_always_wrong():
    """Only images that every model misclassifies count, with each model's prediction."""
    labels = np.array([0, 1, 2])
    models = {
        "one": probabilities(np.array([True, False, False]), labels),
        "two": probabilities(np.array([False, False, True]), labels),
    }
    lost, rows = mistakes.always_wrong(models, labels, named(3), CLASSES)
    assert lost == 1
    assert (rows[0].path, rows[0].predicted, rows[0].agree) == ("x/001.png", "c", 2)
    assert set(rows[0].models) == {"one", "two"}


def test_greedy_selection_never_loses_on_validation():
    """The log loss of the selection is not above that of the best model, which is part of it; a useless model
    is not."""
    labels = rng.integers(0, 3, 200)
    models = {f"m{i}": probabilities(rng.random(200) < 0.8, labels) for i in range(4)}
    models["worst"] = probabilities(rng.random(200) < 0.1, labels)

    def loss(values):
        return -np.log(values[np.arange(200), labels]).mean()

    selection = ensembles.greedy(models, labels)
    assert "worst" not in selection
    assert loss(ensembles.mean(models, selection)) <= min(map(loss, models.values())) + 1e-12
    assert min(models, key=lambda name: loss(models[name])) in selection
    assert ensembles.greedy(dict(reversed(models.items())), labels) == selection


def test_the_mean_is_of_probabilities():
    """Weights are shares: rows still sum to one, and equal weights give the plain mean."""
    models = {name: probabilities(rng.random(9) < 0.5, np.arange(9) % 3) for name in "ab"}
    assert np.allclose(ensembles.mean(models, {"a": 1, "b": 1}), (models["a"] + models["b"]) / 2)
    assert np.allclose(ensembles.mean(models, {"a": 3, "b": 1}).sum(1), 1)
    assert np.allclose(ensembles.mean(models, {"b": 2}), models["b"])
