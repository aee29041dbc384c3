"""The images that a choice may see."""

from __future__ import annotations

import json

import numpy as np
import pytest

from darkroom.core.errors import WorkspaceError
from darkroom.data import manifest, seen_images
from darkroom.data.manifest import Row


@pytest.fixture
def ingested(tmp_path):
    """Return a folder with 20 training and 6 validation images, each of its own shade, and no test images."""
    rows, shade = [], 0
    for split, count in (("train", 20), ("val", 6)):
        (tmp_path / split).mkdir()
        images = np.full((count, 4, 4, 3), 0, np.uint8) + np.arange(shade, shade + count, dtype=np.uint8)[:, None, None, None]
        np.save(tmp_path / split / "images.npy", images)
        np.save(tmp_path / split / "labels.npy", np.arange(shade, shade + count))
        names = map(str, range(shade, shade + count))
        rows += [Row(path=name, label="a", split=split, sha256=name, pixel_hash=name, group=name) for name in names]
        shade += count
    manifest.write(tmp_path / "manifest.parquet", rows)
    (tmp_path / "classes.json").write_text(json.dumps(["a", "b"]))
    return tmp_path


@pytest.mark.parametrize("most", [5_000, 9])
def test_images_labels_and_groups_stay_together(ingested, monkeypatch, most):
    """All images of training and validation, or as many as there may be, keep their label and group; equal seeds draw the same."""
    monkeypatch.setattr(seen_images, "MOST", most)
    loaded = seen_images.load(ingested, 3)
    assert len(loaded.labels) == min(most, 26)
    assert loaded.images[:, 0, 0, 0].tolist() == loaded.labels.tolist() == [int(group) for group in loaded.groups]
    assert (loaded.classes, loaded.val_share) == (2, 6 / 26)
    assert seen_images.load(ingested, 3).labels.tolist() == loaded.labels.tolist()


def test_files_of_two_runs_are_refused(ingested):
    """A manifest with another number of images than the arrays is an error with the remedy."""
    np.save(ingested / "val" / "images.npy", np.zeros((5, 4, 4, 3), np.uint8))
    np.save(ingested / "val" / "labels.npy", np.zeros(5, int))
    with pytest.raises(WorkspaceError) as error:
        seen_images.load(ingested, 0)
    assert "dvc repro ingest" in error.value.remedy
