"""Fixed parts of a source for experiments."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from darkroom.core.errors import SourceError
from darkroom.data.subsets import SubsetOptions, load_subset


@pytest.fixture
def arrays(tmp_path, monkeypatch):
    """Return an .npz of 90 images of three classes and its arrays."""
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).integers(0, 256, (90, 12, 12), np.uint8)
    labels = np.arange(90) % 3
    np.savez(tmp_path / "made.npz", images=images, labels=labels, class_names=["a", "b", "c"])
    return tmp_path / "made.npz", images, labels


def test_an_npz_is_taken_as_it_is(arrays):
    """Of an .npz without a split the same share of each class is held out.

    No image is lost, changed or on both sides.
    """
    path, images, _ = arrays
    subset = load_subset(SubsetOptions(str(path), 12, 1, None, 0.2))
    assert np.bincount(subset.held_out[1]).tolist() == [6, 6, 6]
    both = np.concatenate([subset.train[0], subset.held_out[0]])[:, 0]
    assert sorted(map(bytes, both)) == sorted(map(bytes, images))
    again = load_subset(SubsetOptions(str(path), 12, 1, None, 0.2))
    assert again.digest == subset.digest
    assert load_subset(SubsetOptions(str(path), 12, 1, 30, 0.2)).digest != subset.digest


def test_a_split_of_its_own_is_kept(arrays, tmp_path):
    """A source's own test images are held out, and sizes and channels are those that were asked for."""
    _, images, labels = arrays
    np.savez(
        tmp_path / "split.npz", train_images=images[:60], train_labels=labels[:60], test_images=images[60:], test_labels=labels[60:]
    )
    subset = load_subset(SubsetOptions(str(tmp_path / "split.npz"), 16, 3, 20, 0.5))
    assert subset.train[0].shape == (20, 3, 16, 16)
    assert subset.held_out[0].shape == (30, 3, 16, 16)
    assert subset.held_out[1].tolist() == labels[60:].tolist()


def test_a_folder_is_ingested(folder, tmp_path, monkeypatch):
    """A folder of classes is read as `ingest` reads it; too few images are a mistake with a remedy."""
    monkeypatch.chdir(tmp_path)
    subset = load_subset(SubsetOptions(str(folder), 8, 1, 10, 0.5))
    assert subset.classes == ("cat", "dog")
    assert subset.train[0].shape == (10, 1, 8, 8)
    full, few = (load_subset(SubsetOptions(str(folder), 8, 1, images, 0.5)) for images in (None, 2))
    assert len(few.train[1]) == 2
    assert np.array_equal(few.held_out[0], full.held_out[0])  # few training images do not leave few held out
    with pytest.raises(SourceError, match="held out"):
        load_subset(SubsetOptions(str(folder), 8, 1, 10, 0.0))


def test_a_refusal_names_the_setting_that_the_caller_has(tmp_path, monkeypatch):
    """What `ingest` would say of `ingest.source` is said of `data`; a name that is not there, with what could be named."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "photos" / "cat" / "1.png")
    for name, facts in {"photos": ["`data`"], "mnits": ["mnist", "rotations"]}.items():
        with pytest.raises(SourceError) as error:
            load_subset(SubsetOptions(name, 8), ["rotations"])
        assert all(fact in str(error.value) for fact in facts)
        assert "ingest.source" not in str(error.value)


def test_a_real_subset_is_read(shared, tmp_path, monkeypatch):
    """The subset of CIFAR-10 keeps its own test images."""
    monkeypatch.chdir(tmp_path)
    subset = load_subset(SubsetOptions(str(shared / "cifar10-subset.npz"), 32, 3))
    assert subset.train[0].shape == (3000, 3, 32, 32)
    assert subset.held_out[0].shape == (660, 3, 32, 32)
