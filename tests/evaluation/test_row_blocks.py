"""Many images: what is computed in blocks, or held on disk, is what is computed at once."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from darkroom.core import large_arrays
from darkroom.data import image_rows, manifest
from darkroom.data.image_rows import ImageRows
from darkroom.data.manifest import Row
from darkroom.evaluation import ensembles, intervals, label_issues, metrics, predictions, scoring, selection
from darkroom.evaluation.metrics import Figures
from darkroom.evaluation.report import explorer
from darkroom.evaluation.selection import Judged
from darkroom.models.probabilities import softmax

IMAGES, CLASSES = 300, 6
CLASS_NAMES = tuple("abcdef")
rng = np.random.default_rng(0)
LABELS = rng.integers(0, CLASSES, IMAGES)
LOGITS = (2 * np.eye(CLASSES)[LABELS] + rng.normal(0, 1, (IMAGES, CLASSES))).astype(np.float32)
PROBABILITIES = softmax(LOGITS)


@pytest.fixture
def small_blocks(monkeypatch, tmp_path):
    """Let blocks have a few rows, and arrays of more than 1 kB be on disk."""

    def shrink():
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(large_arrays, "BLOCK", 700)
        monkeypatch.setattr(large_arrays, "IN_MEMORY", 1000)
        monkeypatch.setattr(metrics, "SORTED", 2 * IMAGES)
        monkeypatch.setattr(predictions, "CELLS", 40 * CLASSES)

    return shrink


def test_figures_do_not_depend_on_blocks(small_blocks):
    """Figures, their resamples, ensembles and the selection have the same bytes."""
    other = softmax(LOGITS[:, ::-1])

    def compute() -> list[object]:
        figures = Figures(PROBABILITIES, LABELS, 2)
        judged = Judged(LABELS, np.arange(IMAGES), {"transfer/a": PROBABILITIES, "finetune/b": other}, CLASS_NAMES)
        return [
            figures.headlines(), figures.per_class(CLASS_NAMES), selection.select("accuracy", judged),
            {name: values.tobytes() for name, values in intervals.resample(figures, np.arange(IMAGES), resamples=20).items()},
            ensembles.mean({"a": PROBABILITIES, "b": other}, {"a": 1, "b": 2}).tobytes(),
            scoring.probabilities(LOGITS, 0.7).tobytes(),
        ]  # fmt: skip

    in_one_block = compute()
    small_blocks()
    assert compute() == in_one_block


def test_label_issues_do_not_depend_on_blocks(small_blocks):
    """The same labels are doubted, with the same probabilities up to the last bits of float32."""
    wrong = LABELS.copy()
    wrong[:20] = (wrong[:20] + 1) % CLASSES
    inputs, groups = LOGITS, [str(i) for i in range(IMAGES)]
    images = [{"path": f"{i}", "sha256": "", "split": "train"} for i in range(IMAGES)]

    def compute() -> tuple[list, float]:
        probabilities = label_issues.out_of_fold(inputs, wrong, groups, CLASSES, 0)[1]
        issues, noise = label_issues.find(probabilities, wrong, images, CLASS_NAMES)
        return issues, noise.share

    issues, share = compute()
    small_blocks()
    again, share_again = compute()
    assert len(issues) > 5
    assert [issue.path for issue in issues] == [issue.path for issue in again]
    assert [issue.error_probability for issue in issues] == pytest.approx([issue.error_probability for issue in again], abs=1e-4)
    assert share == pytest.approx(share_again, rel=1e-6)


def test_label_issues_take_little_more_memory_than_probabilities():
    """Beside the probabilities, (N, C) float32, `find` holds a few blocks."""
    images, classes = 20_000, 100
    draw = np.random.default_rng(0)
    labels = draw.integers(0, classes, images)
    probabilities = np.full((images, classes), 1e-3, np.float32)
    probabilities[np.arange(images), labels] = 0.9
    rows = [{"path": "", "sha256": "", "split": ""}] * images
    noise = label_issues.NO_NOISE
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(label_issues, "fit_noise", lambda probabilities, labels: noise)
        patch.setattr(large_arrays, "BLOCK", 2**19)
        tracemalloc.start()
        label_issues.find(probabilities, labels, rows, tuple(map(str, range(classes))))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < probabilities.nbytes


def test_predictions_of_many_images_have_several_row_groups(small_blocks, tmp_path):
    """What is read back, and extracted, has the same values and order."""
    small_blocks()
    rows = [{"path": f"{i}.png", "sha256": "", "pixel_hash": str(i)} for i in range(IMAGES)]
    images, labels = {"val": rows[:90], "test": rows[90:]}, {"val": LABELS[:90], "test": LABELS[90:]}
    values = {"val": PROBABILITIES[:90], "test": PROBABILITIES[90:]}
    predictions.write(tmp_path / "all.parquet", images, {"x": values, "y": values}, labels, CLASS_NAMES)
    predictions.extract(tmp_path / "all.parquet", "y", tmp_path / "y.parquet")
    for path in (tmp_path / "all.parquet", tmp_path / "y.parquet"):
        read = predictions.read(path, "y")
        for split, expected in values.items():
            assert read[split].probabilities.tobytes() == expected.tobytes()
            assert read[split].pixel_hashes == [row["pixel_hash"] for row in images[split]]


def test_rows_of_images_are_those_of_the_manifest(tmp_path):
    """A row is a mapping with all fields of the manifest's row, by place, in turn, in a part, and by column."""
    rows = [Row(path=f"{i}.png", label="a", group=str(i), flags=("dark", "small") if i % 2 else (), width=i) for i in range(5)]
    manifest.write(tmp_path / "manifest.parquet", rows)
    images = ImageRows(manifest.read_table(tmp_path / "manifest.parquet"))
    expected = [{name: getattr(row, name) for name in image_rows.DEFAULTS} for row in manifest.read(tmp_path / "manifest.parquet")]
    assert str(list(images)) == str(expected)  # NaN is not equal to itself
    assert str(images[-1]) == str(expected[-1])
    assert [row["path"] for row in images[1:4:2]] == ["1.png", "3.png"]
    assert image_rows.column(images, "flags") == [row["flags"] for row in expected] == image_rows.column(expected, "flags")
    assert [row["width"] for row in image_rows.joined([images, images])] == [*range(5), *range(5)]
    with pytest.raises(IndexError):
        images[5]


def test_turns_count_earlier_images_of_a_class():
    """The places of images among those of their class are found without comparing all images with each other."""
    assert explorer.turns(np.array([2, 0, 2, 2, 0])).tolist() == [0, 0, 1, 2, 1]
    assert explorer.turns(np.empty(0, int)).tolist() == []
