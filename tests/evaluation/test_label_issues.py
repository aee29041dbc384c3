"""Labels that may be wrong: flipped ones are found, by models that have not seen them."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from darkroom.data import label_fixes
from darkroom.evaluation import label_issues

pytestmark = pytest.mark.filterwarnings("error")  # a user's terminal shows none
rng = np.random.default_rng(0)


def clouds(count: int, classes: int, apart: float = 4.0) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs (N, 8) around a centre per class, and their labels."""
    labels = np.arange(count) % classes
    return (rng.normal(0, 1, (count, 8)) + apart * rng.normal(0, 1, (classes, 8))[labels]).astype(np.float32), labels


def rows(count: int) -> list[dict]:
    return [{"path": f"{i}.png", "sha256": str(i), "split": "train", "group": str(i)} for i in range(count)]


def found(inputs: np.ndarray, labels: np.ndarray, classes: int, groups: list[str] | None = None) -> list[dict]:
    groups = groups or [str(i) for i in range(len(labels))]
    said = label_issues.out_of_fold(inputs, labels, groups, classes, 0)[1]
    return label_issues.issues(said, labels, rows(len(labels)), tuple(map(str, range(classes))))


def test_flipped_labels_are_found():
    """Most of 5% flipped labels are found, nine tenths of what is found was flipped, and the true label is suggested."""
    inputs, labels = clouds(600, 4)
    flipped = rng.permutation(600)[:30]
    wrong = labels.copy()
    wrong[flipped] = (labels[flipped] + 1) % 4
    issues = found(inputs, wrong, 4)
    named = {int(row["sha256"]) for row in issues}
    hits = named & set(flipped.tolist())
    assert len(hits) >= 20
    assert len(hits) >= 0.9 * len(named)
    assert all(row["suggested"] == str(labels[int(row["sha256"])]) for row in issues if int(row["sha256"]) in hits)
    assert [row["quality"] for row in issues] == sorted(row["quality"] for row in issues)


def test_the_surest_mistake_is_found():
    """A label to which a model gives less than a float32 can hold is a candidate, with the quality 0."""
    inputs, labels = clouds(200, 2)
    inputs[0] += 1000 * (inputs[labels == 0].mean(0) - inputs[labels == 1].mean(0))
    labels[0] = 1
    assert ("0.png", "0", 0.0) in {(row["path"], row["suggested"], row["quality"]) for row in found(inputs, labels, 2)}


def test_folds_keep_groups_together_and_classes_apart():
    """Images of a group are in one fold; each class is in every fold, as evenly as its groups allow."""
    labels = np.repeat(np.arange(4), 50)
    groups = [f"g{i // 2}" for i in range(200)]
    where = label_issues.folds(labels, groups)
    for group in set(groups):
        assert len({fold for fold, name in zip(where, groups, strict=True) if name == group}) == 1
    for label in range(4):
        assert np.ptp(np.bincount(where[labels == label], minlength=label_issues.FOLDS)) <= 2


def test_an_image_does_not_answer_for_itself():
    """What is said of an image does not depend on its own label, nor on those of its copies."""
    inputs, labels = clouds(100, 2, 0.5)
    groups = [f"g{i // 4:02}" for i in range(100)]
    labels = np.repeat(np.arange(25) % 2, 4)
    before = label_issues.out_of_fold(inputs, labels, groups, 2, 0)
    where = label_issues.folds(labels, groups)
    other = labels.copy()
    last = np.flatnonzero(where == where[-1])[-4:]
    other[last[:1]] = 1 - other[last[:1]]  # one of four: the group stays with its class
    after = label_issues.out_of_fold(inputs, other, groups, 2, 0)
    if before[0] == after[0]:
        assert np.array_equal(before[1][last], after[1][last])


@pytest.mark.parametrize(("count", "group"), [(100, 1), (9, 3), (20, 20)])
def test_progress_ends_where_it_should(count, group):
    """As many fits are reported as are announced, also where there are fewer groups than folds, or one."""
    inputs, labels = clouds(count, 2)
    done: list[int] = []
    label_issues.out_of_fold(inputs, labels, [str(i // group) for i in range(count)], 2, 0, done.append)
    assert sum(done) == label_issues.FITS


@pytest.mark.parametrize("classes", [2, 100])
def test_one_image_of_each_class_is_no_issue(classes):
    """Where no other image of a class is there, nothing can be said: no candidate, no warning, no division by zero."""
    inputs, labels = clouds(classes, classes)
    assert found(inputs, labels, classes) == []


def test_a_class_of_one_group_is_not_accused():
    """Copies of one picture, alone in their class, are in one fold: no model of the others knows the class."""
    inputs, labels = clouds(100, 2)
    inputs, labels = np.concatenate([inputs, inputs[:5]]), np.concatenate([labels, np.full(5, 2)])
    issues = found(inputs, labels, 3, [str(i) for i in range(100)] + ["same"] * 5)
    assert not [row for row in issues if row["label"] == "2"]


def test_everything_in_one_group():
    """A single group leaves nothing to learn from."""
    inputs, labels = clouds(20, 2)
    assert found(inputs, labels, 2, ["one"] * 20) == []


def test_an_accepted_suggestion_is_a_line_of_the_fixes(tmp_path):
    """`path` and `suggested` of a candidate are what `data/label_fixes.csv` takes, whatever the path is like."""
    made = [dict.fromkeys(label_issues.COLUMNS, "x") | {"path": 'a/b, "c".png', "suggested": "dog"}]
    label_issues.write(tmp_path / "issues.csv", made)
    with (tmp_path / "issues.csv").open(newline="") as file:
        accepted = list(csv.DictReader(file))
    with (tmp_path / "fixes.csv").open("w", newline="") as file:
        csv.writer(file).writerows([label_fixes.COLUMNS, *((row["path"], row["suggested"]) for row in accepted)])
    assert label_fixes.read(tmp_path / "fixes.csv") == {'a/b, "c".png': "dog"}
