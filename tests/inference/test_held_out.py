"""Predictions of a checkpoint for the images that are held out now."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from darkroom.config.params import Ingest
from darkroom.core.errors import SourceError
from darkroom.inference import held_out
from darkroom.inference.classifier import Classifier
from darkroom.models.base import Network, Preprocessing
from darkroom.models.checkpoint import Checkpoint
from darkroom.models.factory import build_features
from darkroom.models.specs import CompactSpec

PATHS = {"val": ["a/0.png", "b/1.png"], "test": ["b/0.png", "a/1.png", "a/0.png"]}


def classifier(size: int) -> Classifier:
    architecture = CompactSpec(size, 4)
    preprocessing = Preprocessing(size, "crop", (0, 0, 0), (0.5,) * 3, (0.5,) * 3)
    network = Network(build_features(architecture), preprocessing, 2)
    return Classifier(network, Checkpoint("baseline", architecture, preprocessing, ("a", "b"), {}, {}))


@pytest.fixture
def ingested(tmp_path):
    """Write a source of four images of 16 pixels, and the arrays of two splits of it."""
    draw = np.random.default_rng(0)
    pictures = {}
    for name in ("a/0.png", "a/1.png", "b/0.png", "b/1.png"):
        file = tmp_path / "source" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        pictures[name] = draw.integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(pictures[name]).save(file)
    for split, names in PATHS.items():
        folder = tmp_path / "ingested" / split
        folder.mkdir(parents=True)
        np.save(folder / "images.npy", np.stack([pictures[name] for name in names]))
        np.save(folder / "labels.npy", np.array([name[0] == "b" for name in names], np.int64))
    return tmp_path / "ingested"


def settings(values: dict, source: Path, size: int) -> Ingest:
    return Ingest.model_validate({**values["ingest"], "source": str(source), "image_size": size})


def test_files_and_arrays_give_the_same(ingested, values, tmp_path, monkeypatch):
    """The arrays are used if they fit the model, the files otherwise: the same predictions in the same order."""
    source = tmp_path / "source"
    from_arrays = held_out.predict_splits(classifier(16), ingested, settings(values, source, 16), PATHS)
    monkeypatch.setattr(held_out, "BATCH", 2)
    from_files = held_out.predict_splits(classifier(16), tmp_path / "nothing", settings(values, source, 32), PATHS)
    for split, names in PATHS.items():
        assert from_arrays[split].shape == (len(names), 2)
        assert np.allclose(from_arrays[split], from_files[split], atol=1e-6)


def test_images_that_are_arrays(ingested, values, tmp_path):
    """Images of an .npz have the predictions of the same images as files."""
    names = sorted({name for names in PATHS.values() for name in names})
    pictures = np.stack([np.asarray(Image.open(tmp_path / "source" / name)) for name in names])
    np.savez(tmp_path / "all.npz", images=pictures, labels=np.array([name[0] for name in names]))
    from darkroom.data.sources import open_source

    with open_source(tmp_path / "all.npz") as source:
        paths = [item.path for item in source.files]
    requested = {"test": [paths[names.index(name)] for name in PATHS["test"]]}
    probabilities = held_out.predict_splits(classifier(16), ingested, settings(values, tmp_path / "all.npz", 32), requested)
    expected = held_out.predict_splits(classifier(16), ingested, settings(values, tmp_path / "source", 16), {"test": PATHS["test"]})
    assert np.allclose(probabilities["test"], expected["test"], atol=1e-6)


def test_a_file_that_was_damaged_since_ingest_is_named(ingested, values, tmp_path):
    """An error names a file that can no longer be read."""
    (tmp_path / "source/b/0.png").write_bytes(b"gone")
    with pytest.raises(SourceError, match=r"b/0\.png"):
        held_out.predict_splits(classifier(16), ingested, settings(values, tmp_path / "source", 32), PATHS)
