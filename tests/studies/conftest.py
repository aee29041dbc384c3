"""Images that a network learns in a few steps, and studies of seconds."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from darkroom.studies.run_config import Sample
from tests.conftest import ROOT


@pytest.fixture
def sample() -> Sample:
    """Return 96 training and 48 held-out images (1, 8, 8) of three classes, each a bright row of its own in noise."""
    rng = np.random.default_rng(0)
    labels = np.arange(144) % 3
    images = rng.integers(0, 60, (144, 1, 8, 8), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[0, 2 * label + 1] += 150
    return Sample(images[:96], labels[:96], images[96:], labels[96:], 3, "made")


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder with the params of the studies, in which the test works; nothing is recorded."""
    (tmp_path / "studies").mkdir()
    shutil.copy(ROOT / "studies" / "params.yaml", tmp_path / "studies" / "params.yaml")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DARKROOM_TRACKING", "off")
    return tmp_path
