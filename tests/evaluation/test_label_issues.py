"""Labels that may be wrong: flipped ones are found by models that were not trained on them."""

from __future__ import annotations

import csv
from dataclasses import fields

import numpy as np
import pytest

from darkroom.data import label_fixes
from darkroom.evaluation import folds, label_issues
from darkroom.evaluation.label_issues import LabelIssue

pytestmark = pytest.mark.filterwarnings("error")  # a user's terminal shows none
rng = np.random.default_rng(0)


def clouds(count: int, classes: int, apart: float = 4.0) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs (N, 8) around a centre per class, and their labels."""
    labels = np.arange(count) % classes
    return (rng.normal(0, 1, (count, 8)) + apart * rng.normal(0, 1, (classes, 8))[labels]).astype(np.float32), labels


def rows(count: int) -> list[dict]:
    return [{"path": f"{i}.png", "sha256": str(i), "split": "train", "group": str(i)} for i in range(count)]


def find(inputs: np.ndarray, labels: np.ndarray, classes: int, groups: list[str] | None = None) -> list[LabelIssue]:
    groups = groups or [str(i) for i in range(len(labels))]
    probabilities = label_issues.out_of_fold(inputs, labels, groups, classes, 0)[1]
    return label_issues.find(probabilities, labels, rows(len(labels)), tuple(map(str, range(classes))))[0]


def test_flipped_labels_are_found():
    """Most of 5% flipped labels are found, nine tenths of the issues are flipped labels, and the true label
    is suggested."""
    inputs, labels = clouds(600, 4)
    flipped = rng.permutation(600)[:30]
    wrong = labels.copy()
    wrong[flipped] = (labels[flipped] + 1) % 4
    issues = find(inputs, wrong, 4)
    named = {int(row.sha256) for row in issues}
    hits = named & set(flipped.tolist())
    assert len(hits) >= 20
    assert len(hits) >= 0.9 * len(named)
    assert all(row.suggested == str(labels[int(row.sha256)]) for row in issues if int(row.sha256) in hits)
    assert [-row.error_probability for row in issues] == sorted(-row.error_probability for row in issues)


def hard_predictions(count: int, classes: int, temperature: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return calibrated probabilities (N, C) of hard images, made overconfident by a temperature, and labels drawn from them."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2.5, (count, classes))
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(1)
    return label_issues.calibrate(np.exp(logits), temperature), labels


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_hard_images_are_no_candidates(temperature, seed):
    """Right labels of images that a model cannot tell apart, a quarter of which it gets wrong, are hardly ever candidates."""
    probabilities, labels = hard_predictions(600, 5, temperature, seed)
    assert (probabilities.argmax(1) != labels).mean() > 0.2
    assert len(label_issues.find(probabilities, labels, rows(600), tuple("abcde"))[0]) <= 4


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.0])
def test_the_expected_precision_is_a_lower_bound(temperature):
    """Over ten draws of 5% flipped labels, as many candidates are wrong as their probabilities add up to, or more: up to
    0.15 of them, where predictions are as certain as they should be. The share of wrong labels is estimated."""
    expected = wrong = shares = candidates = 0.0
    for seed in range(10):
        probabilities, labels = hard_predictions(600, 5, temperature, seed)
        flipped = np.random.default_rng(seed).permutation(600)[:30]
        labels[flipped] = (labels[flipped] + 1) % 5
        issues, noise = label_issues.find(probabilities, labels, rows(600), tuple("abcde"))
        precision = label_issues.expected_precision(issues)
        assert precision is not None
        expected += precision * len(issues)
        candidates += len(issues)
        wrong += len({int(row.sha256) for row in issues} & set(flipped.tolist()))
        shares += noise.share / 10
    assert expected / candidates <= wrong / candidates <= expected / candidates + 0.15
    assert shares == pytest.approx(0.05, abs=0.01)


def test_the_odds_are_discounted():
    """The odds that a label is wrong are multiplied by the discount; certainty stays."""
    wrong = np.array([0.0, 0.5, 0.9, 1.0])
    odds = label_issues.DISCOUNT * 0.9 / 0.1
    assert label_issues.discount(wrong) == pytest.approx(
        [0, label_issues.DISCOUNT / (1 + label_issues.DISCOUNT), odds / (1 + odds), 1]
    )


def test_no_candidates_have_no_precision():
    """Without candidates nothing is expected of them."""
    assert label_issues.expected_precision([]) is None


def test_the_most_confident_mistake_is_found():
    """A label whose probability is too small for a float32 is an issue, with quality 0."""
    inputs, labels = clouds(200, 2)
    inputs[0] += 1000 * (inputs[labels == 0].mean(0) - inputs[labels == 1].mean(0))
    labels[0] = 1
    assert ("0.png", "0", 0.0) in {(row.path, row.suggested, row.quality) for row in find(inputs, labels, 2)}


def test_folds_keep_groups_together_and_classes_apart():
    """Images of a group are in one fold; each class is in every fold, as evenly as its groups allow."""
    labels = np.repeat(np.arange(4), 50)
    groups = [f"g{i // 2}" for i in range(200)]
    where = folds.deal(labels, groups, label_issues.FOLDS)
    other = folds.deal(labels, groups, label_issues.FOLDS, 1)
    assert not np.array_equal(where, other)
    for dealt in (where, other):
        for group in set(groups):
            assert len({fold for fold, name in zip(dealt, groups, strict=True) if name == group}) == 1
        for label in range(4):
            assert np.ptp(np.bincount(dealt[labels == label], minlength=label_issues.FOLDS)) <= 2


def test_out_of_fold_predictions_ignore_the_own_label():
    """The prediction for an image does not depend on its own label, nor on those of its copies."""
    inputs, labels = clouds(100, 2, 0.5)
    groups = [f"g{i // 4:02}" for i in range(100)]
    labels = np.repeat(np.arange(25) % 2, 4)
    before = label_issues.out_of_fold(inputs, labels, groups, 2, 0)
    where = folds.deal(labels, groups, label_issues.FOLDS)
    other = labels.copy()
    last = np.flatnonzero(where == where[-1])[-4:]
    other[last[:1]] = 1 - other[last[:1]]  # one of four: the group stays with its class
    after = label_issues.out_of_fold(inputs, other, groups, 2, 0)
    if before[0] == after[0]:
        assert np.array_equal(before[1][last], after[1][last])


@pytest.mark.parametrize(("count", "group"), [(100, 1), (9, 3), (20, 20)])
def test_progress_reaches_its_total(count, group):
    """`FITS` fits are reported, also where there are fewer groups than folds, or one."""
    inputs, labels = clouds(count, 2)
    fits: list[int] = []
    label_issues.out_of_fold(inputs, labels, [str(i // group) for i in range(count)], 2, 0, fits.append)
    assert sum(fits) == label_issues.FITS


@pytest.mark.parametrize("classes", [2, 100])
def test_one_image_of_each_class_is_no_issue(classes):
    """Without another image of its class no label is an issue: no warning, no division by zero."""
    inputs, labels = clouds(classes, classes)
    assert find(inputs, labels, classes) == []


def test_a_class_of_one_group_has_no_issues():
    """Copies of one picture, alone in their class, are in one fold: no model of the others is trained on the
    class."""
    inputs, labels = clouds(100, 2)
    inputs, labels = np.concatenate([inputs, inputs[:5]]), np.concatenate([labels, np.full(5, 2)])
    issues = find(inputs, labels, 3, [str(i) for i in range(100)] + ["same"] * 5)
    assert not [row for row in issues if row.label == "2"]


def test_everything_in_one_group():
    """A single group leaves nothing to learn from."""
    inputs, labels = clouds(20, 2)
    assert find(inputs, labels, 2, ["one"] * 20) == []


def test_an_accepted_suggestion_is_a_line_of_the_fixes(tmp_path):
    """`path` and `suggested` of an issue can be copied into `data/label_fixes.csv`, whatever characters the
    path has."""
    label_issues.write(tmp_path / "issues.csv", [LabelIssue('a/b, "c".png', "0", "train", "cat", "dog", 0.9, 0.1, 0.8)])
    with (tmp_path / "issues.csv").open(newline="") as file:
        accepted = list(csv.DictReader(file))
    assert list(accepted[0]) == [field.name for field in fields(LabelIssue)]
    with (tmp_path / "fixes.csv").open("w", newline="") as file:
        csv.writer(file).writerows([label_fixes.COLUMNS, *((row["path"], row["suggested"]) for row in accepted)])
    assert label_fixes.read(tmp_path / "fixes.csv") == {'a/b, "c".png': "dog"}
