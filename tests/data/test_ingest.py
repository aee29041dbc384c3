"""A folder to a data set: every file has its row, no picture is in two splits."""

from __future__ import annotations

import os
import shutil
import tarfile

import numpy as np
import pytest
from PIL import Image

from darkroom.config.params import Ingest
from darkroom.core.errors import SourceError
from darkroom.data import ingest as room
from darkroom.data import splits
from darkroom.data.manifest import COLUMNS


def options(**changes) -> Ingest:
    base = {
        "source": "photos", "image_size": 16, "resize": "crop", "background": (0, 0, 0), "min_size": 8, "split_by": "hash",
        "val_share": 0.1, "test_share": 0.2, "near_duplicates": "group", "on_conflict": "quarantine",
        "on_leak": "quarantine", "max_quarantined": 0.2,
        "seed": 0,
    }  # fmt: skip
    return Ingest(**(base | changes))


def read(folder, threads=2, fixes=None, **changes):
    """Return a data set, its arrays loaded; the decode cache lies beside the folder."""
    params = options(**changes)
    with room.ingest(folder, params, fixes, threads=threads, cache_folder=folder.parent / "cache") as data:
        room.check(data, folder, params)
        data.loaded = {name: data.arrays(name) for name in ("train", "val", "test")}
        return data


def columns(data) -> list[str]:
    """Return the manifest's columns of each row as text, in which NaN equals NaN."""
    return [str([getattr(row, name) for name in COLUMNS]) for row in data.rows]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Run in a folder of its own, where scratch files may lie."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def test_every_file_has_one_row(folder):
    """Row count equals file count, whatever the files are; rows come in the order of their paths."""
    (folder / "cat" / "Thumbs.db").write_bytes(b"x")
    (folder / "readme.txt").write_text("x")
    (folder / "dog" / "broken.jpg").write_bytes(b"x")
    (folder / "dog" / "deeper").mkdir()
    shutil.copy(folder / "dog" / "0.png", folder / "dog" / "deeper" / "again.png")
    data = read(folder)
    assert [row.path for row in data.rows] == sorted(row.path for row in data.rows)
    assert len(data.rows) == sum(len(files) for _, _, files in os.walk(folder))
    status = {row.path: row.status for row in data.rows}
    assert status["cat/Thumbs.db"] == status["readme.txt"] == "ignored"
    assert status["dog/broken.jpg"] == "quarantined"
    assert status["dog/deeper/again.png"] == "accepted"


def test_identical_pictures_share_a_split(folder):
    """Copies of an image under other names, also in another format, are always in the split of the original."""
    for i in range(30):
        image = Image.open(folder / "cat" / f"{i}.png")
        image.save(folder / "cat" / f"copy {i}.bmp")
    data = read(folder)
    split = {row.path: row.split for row in data.rows}
    assert all(split[f"cat/{i}.png"] == split[f"cat/copy {i}.bmp"] for i in range(30))
    assert {row.split for row in data.rows} == {"train", "val", "test"}


def test_adding_and_removing_moves_no_other_image(folder):
    """The split of an image depends on itself and the seed: others may come and go."""
    before = {row.path: row.split for row in read(folder).rows}
    for i in range(10):
        (folder / "dog" / f"{i}.png").unlink()
    rng = np.random.default_rng(9)
    for i in range(40):
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), np.uint8)).save(folder / "cat" / f"new{i}.png")
    after = {row.path: row.split for row in read(folder).rows}
    assert all(before[path] == after[path] for path in before.keys() & after.keys())


def test_threads_change_nothing(folder):
    """The result does not depend on the number of threads."""
    one = read(folder, threads=1)
    shutil.rmtree(folder.parent / "cache")
    four = read(folder, threads=4)
    assert columns(one) == columns(four)
    assert all((a == b).all() for name in one.loaded for a, b in zip(one.loaded[name], four.loaded[name], strict=True))


def test_a_ready_layout_is_respected(folder, tmp_path):
    """Images stay in the split whose folder they lie in, and a missing one is taken out of training alone."""
    for name, numbers in (("train", range(20)), ("valid", range(20, 30))):
        for label in ("cat", "dog"):
            (tmp_path / "ready" / name / label).mkdir(parents=True)
            for i in numbers:
                shutil.copy(folder / label / f"{i}.png", tmp_path / "ready" / name / label)
    data = read(tmp_path / "ready")
    splits_of = {(row.path.split("/")[0], row.split) for row in data.rows}
    assert splits_of == {("train", "train"), ("train", "test"), ("valid", "val")}
    assert data.classes == ("cat", "dog")


def test_a_picture_in_two_ready_splits_is_reported(folder, tmp_path):
    """Where the folder itself leaks, the test copy is kept, the training copy quarantined, and the pair
    named.
    """
    rng = np.random.default_rng(5)
    for name in ("train", "val", "test"):
        for label in ("cat", "dog"):
            (tmp_path / "ready" / name / label).mkdir(parents=True)
            for i in range(5):
                image = Image.fromarray(rng.integers(0, 256, (20, 20, 3), np.uint8))
                image.save(tmp_path / "ready" / name / label / f"{i}.png")
    shutil.copy(tmp_path / "ready/test/cat/0.png", tmp_path / "ready/train/cat/copy.png")
    data = read(tmp_path / "ready")
    assert [[row.path for row in members] for members in data.groups.leaks] == [["test/cat/0.png", "train/cat/copy.png"]]
    rows = {row.path: row for row in data.rows}
    assert rows["test/cat/0.png"].split == "test"
    assert rows["train/cat/copy.png"].reason == "duplicate_across_splits"


def test_the_split_does_not_depend_on_the_size_of_the_arrays(folder):
    """Another image size or way to resize moves no image into another split."""
    one, other = (read(folder, **changes) for changes in ({"image_size": 16}, {"image_size": 24, "resize": "pad"}))
    assert {row.path: row.split for row in one.rows} == {row.path: row.split for row in other.rows}


def test_what_is_no_file_is_listed_and_not_read(folder):
    """Links to folders, to themselves and to nowhere, and pipes, have a row with a reason.

    None is waited for.
    """
    (folder / "cat" / "loop.png").symlink_to(folder / "cat" / "loop.png")
    (folder / "cat" / "gone.png").symlink_to(folder / "cat" / "never.png")
    (folder / "bird").symlink_to(folder / "dog")
    os.mkfifo(folder / "dog" / "pipe.png")
    rows = {row.path: row for row in read(folder).rows}
    assert rows["bird"].reason == "linked_folder"
    assert {rows[name].reason for name in ("cat/loop.png", "cat/gone.png", "dog/pipe.png")} == {"unreadable"}


def test_a_name_that_is_no_utf8_is_kept(folder):
    """A file name of arbitrary bytes is read, and written in the manifest with escapes."""
    source = os.fsencode(folder / "cat" / "0.png")
    shutil.copy(source, os.fsencode(folder / "cat") + b"/\xff\xfe.png")
    # a name that looks like the escapes of the other
    shutil.copy(folder / "cat" / "1.png", folder / "cat" / "\\xff\\xfe.png")
    assert "cat/\\\\xff\\\\xfe.png" in {row.path for row in read(folder).rows if row.status == "accepted"}
    assert "cat/\\xff\\xfe.png" in {row.path for row in read(folder).rows if row.status == "accepted"}


def test_one_picture_under_two_labels_is_quarantined(folder):
    """The same pixels in two classes cannot both be right: neither is used."""
    shutil.copy(folder / "cat" / "0.png", folder / "dog" / "cat.png")
    rows = {row.path: row for row in read(folder).rows}
    assert rows["cat/0.png"].reason == rows["dog/cat.png"].reason == "label_conflict"
    assert "dog/cat.png" in rows["cat/0.png"].detail


def test_links_to_files_are_images(folder, tmp_path):
    """A link to a file elsewhere, or inside the source, is an image like another."""
    shutil.copy(folder / "cat" / "0.png", tmp_path / "elsewhere.png")
    (folder / "cat" / "out.png").symlink_to(tmp_path / "elsewhere.png")
    (folder / "cat" / "in.png").symlink_to(folder / "cat" / "1.png")
    rows = {row.path: row for row in read(folder).rows}
    assert rows["cat/out.png"].status == "accepted"
    assert rows["cat/in.png"].status == "accepted"


def one_class(folder):
    shutil.rmtree(folder / "dog")


def no_image(folder):
    shutil.rmtree(folder)
    folder.mkdir()


def no_readable_image(folder):
    for path in folder.rglob("*.png"):
        path.write_bytes(b"x")


def no_folder(folder):
    shutil.rmtree(folder)


def flat(folder):
    for path in folder.rglob("*.png"):
        path.rename(folder / f"{path.parent.name}{path.name}")


def case(folder):
    (folder / "dog").rename(folder / "Cat")


@pytest.mark.parametrize("damage", [one_class, no_image, no_readable_image, no_folder, flat, case])
def test_a_folder_that_cannot_train_is_refused(folder, damage):
    """One class, no image, no readable image, no folder, no class folders, classes that differ by case: an
    error with a remedy.
    """
    damage(folder)
    with pytest.raises(SourceError) as error:
        read(folder)
    assert error.value.remedy


@pytest.mark.parametrize("name", ["with space.png", "ünïcode–日本.png", "line\nbreak.png", "-dash.png", "quote'\".png"])
def test_unusual_names_are_names(folder, name):
    """Spaces, Unicode, newlines and quotes in a name change nothing."""
    shutil.copy(folder / "cat" / "0.png", folder / "cat" / name)
    assert f"cat/{name}" in {row.path for row in read(folder).rows if row.status == "accepted"}


@pytest.mark.parametrize(("seed", "val", "test"), [(0, 0.1, 0.2), (1, 0.05, 0.3), (2**31 - 1, 0.3, 0.05)])
def test_shares_hold(seed, val, test):
    """Over many groups the splits have their shares, within five standard deviations."""
    count = 4000
    names = [splits.by_hash(f"group {i}", test, val, seed) for i in range(count)]
    for name, share in (("val", val), ("test", test)):
        assert abs(names.count(name) - count * share) < 5 * (count * share * (1 - share)) ** 0.5


@pytest.mark.slow
def test_real_photos(shared, tmp_path):
    """The ants and bees set: every file accounted for, the placeholder GIF included, train and val kept."""
    with tarfile.open(shared / "hymenoptera.tar") as archive:
        archive.extractall(tmp_path, filter="data")
    data = read(tmp_path / "hymenoptera_data", image_size=32)
    assert len(data.rows) == 398
    assert data.classes == ("ants", "bees")
    assert len(data.split("val")) == 153
