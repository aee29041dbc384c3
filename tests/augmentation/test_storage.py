"""Stored and online views: the same pixels, whoever makes them."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from darkroom.augmentation import storage
from darkroom.augmentation.views import ViewGenerator
from darkroom.core import errors
from darkroom.stages import augment

COUNT = 3


@pytest.fixture
def images(tmp_path):
    """Return a file of 200 images of 24 pixels, enough for worker processes to be started."""
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(0, 256, (200, 24, 24, 3), np.uint8))
    return tmp_path / "images.npy"


def folder(tmp_path, images, stored):
    made = tmp_path / ("stored" if stored else "online")
    made.mkdir()
    viewer = ViewGenerator("strong", 24, 7)
    if stored:
        storage.write_views(images, viewer, COUNT, made / "views.npy", 2)
    else:
        (made / "images.npy").write_bytes(images.read_bytes())
    np.save(made / "labels.npy", np.arange(200) % 4)
    (made / "policy.json").write_text(json.dumps(viewer.as_dict() | {"views": COUNT}))
    return made


def test_the_number_of_workers_changes_no_pixel(images, tmp_path):
    """One process writes the views that two and three write."""
    made = []
    for workers in (1, 2, 3):
        storage.write_views(images, ViewGenerator("strong", 24, 7), COUNT, tmp_path / f"{workers}.npy", workers)
        made.append((tmp_path / f"{workers}.npy").read_bytes())
    assert made[0] == made[1] == made[2]


def test_online_views_are_the_stored_ones(images, tmp_path):
    """Asked for by slices, by indices or as a stream of batches, online views are those that would be stored."""
    stored, labels = storage.load_views(folder(tmp_path, images, stored=True), 2)
    online, same = storage.load_views(folder(tmp_path, images, stored=False), 2)
    assert (labels == same).all()
    assert online.shape == stored.shape
    assert len(online) == COUNT
    assert (online[1][10:20] == stored[1][10:20]).all()
    order = np.random.default_rng(1).permutation(200)
    wanted = [order[i : i + 48] for i in range(0, 200, 48)]
    for number in range(COUNT):
        for batch, made in zip(wanted, online[number].stream(wanted), strict=True):
            assert (made == stored[number][batch]).all()
    online.pool.shutdown()


def test_views_are_known_by_their_content(images, tmp_path):
    """The identity of views follows their pixels, their number and what they are stored with."""
    stored, _ = storage.load_views(folder(tmp_path, images, stored=True), 2)
    one = storage.views_digest(stored, stored[0])
    changed = np.array(stored)
    assert storage.views_digest(changed, stored[0]) == one
    changed[2, 100, 3, 3, 0] ^= 1
    assert storage.views_digest(changed, stored[0]) != one
    assert storage.views_digest(stored, changed[2]) != one
    online, _ = storage.load_views(folder(tmp_path, images, stored=False), 2)
    assert storage.views_digest(online) == storage.views_digest(online) != one


def test_missing_views_name_the_remedy(tmp_path):
    """A folder without views is a mistake with a remedy."""
    with pytest.raises(errors.WorkspaceError, match="dvc repro"):
        storage.load_views(tmp_path, 1)


def test_albumentations_does_not_bring_torch():
    """Views are made without importing torch, also in worker processes, and torch can be imported afterwards."""
    code = (
        "import sys; from darkroom.augmentation.views import ViewGenerator; ViewGenerator('strong', 24, 0); "
        "assert 'torch' not in sys.modules; "
        "import torch; torch.zeros(1)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_views_that_do_not_fit_are_refused_with_both_remedies(tmp_path, monkeypatch):
    """The message names what the views take, what is free, the other storage, and how many views would fit."""
    monkeypatch.setattr(augment.shutil, "disk_usage", lambda _: SimpleNamespace(free=10 * 2**30))
    augment._check_space(2**30, 9, tmp_path / "not" / "there")
    with pytest.raises(errors.ParamsError) as error:
        augment._check_space(2**30, 10, tmp_path / "not" / "there")
    for words in ("10 GiB", "10 GiB are free", "augment.storage: online", "augment.views: 9"):
        assert words in str(error.value), words
