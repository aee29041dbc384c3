"""Stored and online views have the same pixels."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
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
def images(tmp_path, monkeypatch):
    """Return a file of 40 images of 24 pixels, enough here for worker processes to be started."""
    monkeypatch.setattr(storage, "FEW", 100)
    monkeypatch.setattr(storage, "CHUNK", 8)
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(0, 256, (40, 24, 24, 3), np.uint8))
    return tmp_path / "images.npy"


def write_folder(tmp_path, images, stored):
    target = tmp_path / ("stored" if stored else "online")
    target.mkdir()
    generator = ViewGenerator("strong", 24, 7)
    if stored:
        storage.write_views(images, generator, COUNT, target / "views.npy", 2)
    else:
        (target / "images.npy").write_bytes(images.read_bytes())
    np.save(target / "labels.npy", np.arange(40) % 4)
    (target / "policy.json").write_text(json.dumps(generator.as_dict() | {"views": COUNT}))
    return target


@pytest.mark.slow
def test_the_number_of_workers_changes_no_pixel(images, tmp_path):
    """One process writes the views that two and three write."""
    contents = []
    for workers in (1, 2, 3):
        storage.write_views(images, ViewGenerator("strong", 24, 7), COUNT, tmp_path / f"{workers}.npy", workers)
        contents.append((tmp_path / f"{workers}.npy").read_bytes())
    assert contents[0] == contents[1] == contents[2]


@pytest.mark.slow
def test_online_views_are_the_stored_ones(images, tmp_path):
    """By slices, by indices or as a stream of batches, online views equal stored ones. Their processes end with them."""
    stored, labels = storage.load_views(write_folder(tmp_path, images, stored=True), 2)
    online, same = storage.load_views(write_folder(tmp_path, images, stored=False), 2)
    assert (labels == same).all()
    assert online.shape == stored.shape
    assert len(online) == COUNT
    assert (online[1][10:20] == stored[1][10:20]).all()
    order = np.random.default_rng(1).permutation(40)
    batches = [order[i : i + 12] for i in range(0, 40, 12)]
    for number in range(COUNT):
        for batch, views in zip(batches, online[number].stream(batches), strict=True):
            assert (views == stored[number][batch]).all()
    assert multiprocessing.active_children()
    del online
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_threads_of_opencv_do_not_stop_the_workers(tmp_path):
    """Views are written in worker processes also where OpenCV has threads already, which a forked process does not have."""
    code = """
import sys, time
from pathlib import Path
import cv2
import numpy as np
from darkroom.augmentation import storage
from darkroom.augmentation.views import ViewGenerator
storage.FEW, folder = 10, Path(sys.argv[1])
np.save(folder / "images.npy", np.zeros((64, 24, 24, 3), np.uint8))
cv2.setNumThreads(4)
cv2.GaussianBlur(np.zeros((2000, 2000, 3), np.uint8), (31, 31), 5)
time.sleep(0.5)
storage.write_views(folder / "images.npy", ViewGenerator("strong", 24, 7), 3, folder / "views.npy", 2)
assert cv2.getNumThreads() == 4
"""
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], start_new_session=True)
    try:
        assert process.wait(60) == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def test_the_digest_of_views_follows_their_content(images, tmp_path):
    """It depends on their pixels, their number and the other images."""
    stored, _ = storage.load_views(write_folder(tmp_path, images, stored=True), 2)
    one = storage.views_digest(stored, stored[0])
    changed = np.array(stored)
    assert storage.views_digest(changed, stored[0]) == one
    changed[2, 30, 3, 3, 0] ^= 1
    assert storage.views_digest(changed, stored[0]) != one
    assert storage.views_digest(stored, changed[2]) != one
    online, _ = storage.load_views(write_folder(tmp_path, images, stored=False), 2)
    assert storage.views_digest(online) == storage.views_digest(online) != one


def test_missing_views_name_the_remedy(tmp_path):
    """A folder without views is a mistake with a remedy."""
    with pytest.raises(errors.WorkspaceError, match="dvc repro"):
        storage.load_views(tmp_path, 1)


@pytest.mark.slow
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
