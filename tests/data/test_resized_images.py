"""The images that a choice may see, decoded again at another size."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from darkroom import cli
from darkroom.config import params, recipes
from darkroom.core.errors import WorkspaceError
from darkroom.data import manifest, resized_images, seen_images
from darkroom.data.sources import Source
from tests.conftest import ROOT

INGESTED = Path("data/ingested")


@pytest.fixture
def settings(folder, tmp_path, monkeypatch) -> params.Ingest:
    """Return the settings with which a folder is ingested at 32 pixels, in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DARKROOM_TRACKING", "off")
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    Path("data").mkdir()
    shutil.copy(ROOT / "data/label_fixes.csv", "data")
    requested = {"ingest.source": str(folder), "fetch.datasets": [], "ingest.image_size": 32}
    recipes.apply(Path("params.yaml"), requested, lambda settings: None)
    assert cli.main(["ingest", "--out", "data/ingested", "--report", "reports/data.html", "--fixes", "data/label_fixes.csv"]) == 0
    return params.read().ingest


@pytest.mark.parametrize("most", [5_000, 20])
def test_they_are_the_same_images_in_the_same_order(settings, monkeypatch, most):
    """At the size of the last ingest the pixels are those of its arrays; at another size there are as many images."""
    monkeypatch.setattr(seen_images, "MOST", most)
    assert np.array_equal(resized_images.load(INGESTED, settings, 32, 3), seen_images.load(INGESTED, 3).images)
    assert resized_images.load(INGESTED, settings, 48, 3).shape == (len(seen_images.load(INGESTED, 3).labels), 48, 48, 3)


def test_no_test_image_is_read(settings, monkeypatch):
    """Of the source only files of training and validation images are read."""
    paths, read = [], Source.read
    monkeypatch.setattr(Source, "read", lambda self, file: (paths.append(file.path), read(self, file))[1])
    resized_images.load(INGESTED, settings, 48, 0)
    rows = manifest.read_images(INGESTED / "manifest.parquet")
    assert sorted(paths) == sorted(row.path for split in ("train", "val") for row in rows[split])


def test_a_changed_source_is_named(settings, folder):
    """An image that is not what was ingested is an error with its remedy."""
    first, second = (folder / row.path for row in manifest.read_images(INGESTED / "manifest.parquet")["train"][:2])
    shutil.copy(first, second)
    with pytest.raises(WorkspaceError, match="not what was ingested") as error:
        resized_images.load(INGESTED, settings, 48, 0)
    assert "dvc repro ingest" in error.value.remedy
