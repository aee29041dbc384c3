"""Groups, conflicts, leaks and splits: no picture is in two splits, and an image moves only with its group."""

from __future__ import annotations

import shutil

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from darkroom.core.errors import SourceError
from darkroom.data import label_fixes
from darkroom.data.grouping import assign_splits
from darkroom.data.source_row import SourceRow
from darkroom.data.splits import SplitGroup, stratified
from darkroom.evaluation import folds
from tests.conftest import ROOT
from tests.data.test_duplicates import textures
from tests.data.test_ingest import elsewhere, options, read  # noqa: F401


def save(path, grey: np.ndarray, **options_) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.repeat(grey[..., None], 3, axis=2)).save(path, **options_)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Return a folder of two classes, 40 pictures of 128 pixels each, to be read only."""
    place = tmp_path_factory.mktemp("textured")
    for i, picture in enumerate(textures(80)):
        save(place / ("cat", "dog")[i % 2] / f"{i}.png", cv2.resize(picture, (128, 128), interpolation=cv2.INTER_CUBIC))
    return place


@pytest.fixture
def textured(drawn, tmp_path):
    """Return a folder of two classes, 40 pictures of 128 pixels each."""
    return shutil.copytree(drawn, tmp_path / "photos")


def test_near_copies_share_a_group_and_a_split(textured):
    """Resized, recompressed and mirrored copies are in the group and the split of their original, whatever
    their format.
    """
    for i in range(0, 40, 2):
        original = np.asarray(Image.open(textured / "cat" / f"{i}.png").convert("L"))
        save(textured / "cat" / f"smaller{i}.jpg", cv2.resize(original, (80, 80), interpolation=cv2.INTER_AREA), quality=70)
        save(textured / "cat" / f"mirrored{i}.webp", np.ascontiguousarray(original[:, ::-1]), quality=80)
    rows = {row.path: row for row in read(textured).rows}
    same = [
        len({(rows[name].group, rows[name].split) for name in (f"cat/{i}.png", f"cat/smaller{i}.jpg", f"cat/mirrored{i}.webp")})
        == 1
        for i in range(0, 40, 2)
    ]
    assert sum(same) >= 19
    assert {rows[f"cat/{i}.png"].copies for i in range(0, 40, 2)} == {3}


def test_near_copies_with_two_labels_are_a_conflict(textured):
    """Both are quarantined and named; `keep` keeps them in one split; a label fix settles it."""
    original = np.asarray(Image.open(textured / "cat" / "0.png").convert("L"))
    save(textured / "dog" / "wrong.jpg", cv2.resize(original, (90, 90), interpolation=cv2.INTER_AREA))
    data = read(textured)
    rows = {row.path: row for row in data.rows}
    assert rows["cat/0.png"].reason == rows["dog/wrong.jpg"].reason == "label_conflict"
    assert [[row.path for row in members] for members in data.groups.conflicts] == [["cat/0.png", "dog/wrong.jpg"]]
    unmoved = {row.path: row for row in read(textured, on_conflict="keep").rows}
    assert unmoved["cat/0.png"].status == unmoved["dog/wrong.jpg"].status == "accepted"
    assert unmoved["cat/0.png"].split == unmoved["dog/wrong.jpg"].split
    corrected = read(textured, fixes={"dog/wrong.jpg": "cat"})
    assert corrected.groups.conflicts == []
    row = next(row for row in corrected.rows if row.path == "dog/wrong.jpg")
    assert (row.label, row.source_label, row.flags) == ("cat", "dog", ("label_fixed",))


@pytest.mark.parametrize("names", [("0.png", "a.png"), ("0.png", "zz.png")])
def test_every_copy_of_a_disputed_picture_is_quarantined(textured, names):
    """Exact copies on both sides are in the conflict too, whatever they are called."""
    original = np.asarray(Image.open(textured / "cat" / "0.png").convert("L"))
    shutil.copy(textured / "cat" / "0.png", textured / "cat" / names[1])
    for name in ("small.png", "small again.png"):
        save(textured / "dog" / name, cv2.resize(original, (90, 90), interpolation=cv2.INTER_AREA))
    data = read(textured)
    disputed = {row.path for row in data.rows if row.reason == "label_conflict"}
    assert disputed == {"cat/0.png", f"cat/{names[1]}", "dog/small.png", "dog/small again.png"}
    assert {row.path for members in data.groups.conflicts for row in members} == disputed


def test_leaks_can_be_kept(textured, tmp_path):
    """With on_leak keep the source's splits stay as they are, and the pair is still reported."""
    for name, numbers in (("train", range(40)), ("test", range(40, 80))):
        for i in numbers:
            target = tmp_path / "ready" / name / ("cat", "dog")[i % 2]
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(textured / ("cat", "dog")[i % 2] / f"{i}.png", target)
    shutil.copy(tmp_path / "ready/test/cat/40.png", tmp_path / "ready/train/cat/leak.png")
    for choice, status in (("quarantine", "quarantined"), ("keep", "accepted")):
        data = read(tmp_path / "ready", on_leak=choice)
        assert [[row.path for row in members] for members in data.groups.leaks] == [["test/cat/40.png", "train/cat/leak.png"]]
        rows = {row.path: row for row in data.rows}
        assert rows["train/cat/leak.png"].status == status
        assert rows["test/cat/40.png"].split == "test"
        assert choice == "quarantine" or rows["train/cat/leak.png"].split == "train"


pictures = st.lists(st.tuples(st.integers(0, 25), st.sampled_from(["", "", "", "g1", "g2"])), min_size=1, max_size=30)


def new_rows(items: list[tuple[int, str]]) -> list[SourceRow]:
    return [
        SourceRow(
            path=f"{i}.png", label="cat", source_label="cat", pixel_hash=f"{number:032x}", source_group=group, width=20, height=20
        )
        for i, (number, group) in enumerate(items)
    ]


@given(pictures, pictures, st.integers(0, 9), st.sampled_from([0.1, 0.2, 0.4]))
@settings(max_examples=60, deadline=None)
def test_adding_moves_no_image_outside_the_groups_that_are_joined(before, added, seed, share):
    """Groups that no added image joins keep their name and their split, and no group straddles splits."""
    params = options(seed=seed, test_share=share)
    first, second = new_rows(before), new_rows(before + added)
    assign_splits(first, lambda slots, detailed=False: np.empty(0), params, frozenset())
    assign_splits(second, lambda slots, detailed=False: np.empty(0), params, frozenset())
    touched = {row.group for row in second[len(before) :]}
    for old, new in zip(first, second, strict=False):
        if new.group not in touched:
            assert (old.group, old.split) == (new.group, new.split)
    splits: dict[str, set[str]] = {}
    for row in second:
        splits.setdefault(row.group, set()).add(row.split)
    assert all(len(names) == 1 for names in splits.values())


@given(st.lists(st.integers(1, 12), min_size=1, max_size=40), st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_stratified_groups_are_never_split(sizes, seed):
    """Groups stay whole; shares are within half of the largest group."""
    groups = [SplitGroup(str(i), {"cat": size}) for i, size in enumerate(sizes)]
    splits = stratified(groups, 0.2, 0.1, seed)
    assert len(splits) == len(sizes)
    if len(sizes) >= 10:
        count = sum(group.counts["cat"] for group in groups if splits[group.key] == "test")
        assert abs(count - 0.2 * sum(sizes)) <= max(sizes)


def test_a_stratified_folder_has_every_class_in_every_split(folder):
    """A class with few images has its share too, to the image."""
    for path in sorted((folder / "cat").glob("*.png"))[6:]:
        path.unlink()
    data = read(folder, split_by="stratified")
    counts = {
        (name, label): sum(row.label == label for row in data.split(name))
        for name in ("train", "val", "test")
        for label in data.classes
    }
    assert counts == {
        ("train", "cat"): 4, ("val", "cat"): 1, ("test", "cat"): 1, ("train", "dog"): 21, ("val", "dog"): 3, ("test", "dog"): 6,
    }  # fmt: skip


def test_label_fixes_are_read(tmp_path):
    """A path or a pixel hash and a label; no file is no fix; the file that is shipped has none."""
    (tmp_path / "fixes.csv").write_text("image,label\ncat/1.png,dog\n,\nabc,cat\n")
    assert label_fixes.read(tmp_path / "fixes.csv") == {"cat/1.png": "dog", "abc": "cat"}
    assert label_fixes.read(tmp_path / "none.csv") == {}
    assert (ROOT / "data" / "label_fixes.csv").read_text() == "image,label\n"


@pytest.mark.parametrize("text", ["", "path\n", "image,label\na\n", "image,label\na,\n", "image,label\na,b\na,c\n", "a,b\n"])
def test_wrong_label_fixes_are_refused(tmp_path, text):
    """A file without its first line, a line without a label, two labels for one image: an error with a
    remedy.
    """
    (tmp_path / "fixes.csv").write_text(text)
    with pytest.raises(SourceError) as error:
        label_fixes.read(tmp_path / "fixes.csv")
    assert error.value.remedy


def test_fixes_apply_by_path_and_by_pixels(folder):
    """Each names its image; one that names none is reported; an unknown class is refused with the nearest."""
    first = next(row for row in read(folder).rows if row.path == "cat/1.png")
    data = read(folder, fixes={"cat/0.png": "dog", first.pixel_hash: "dog", "cat/gone.png": "dog"})
    assert sorted(row.path for row in data.rows if "label_fixed" in row.flags) == ["cat/0.png", "cat/1.png"]
    assert data.unused_fixes == ["cat/gone.png"]
    with pytest.raises(SourceError, match='did you mean "dog"'):
        read(folder, fixes={"cat/0.png": "dogs"})


def test_the_folds_of_a_table_are_the_folds_of_a_cross_validation(textured):
    """Groups that come of a column of folds are known as such; other groups are not."""
    lines = [f"{'cat' if i % 2 == 0 else 'dog'}/{i}.png,{'cat' if i % 2 == 0 else 'dog'},{i // 2 % 8}\n" for i in range(80)]
    (textured / "labels.csv").write_text("path,label,fold\n" + "".join(lines))
    groups = [row.group for row in read(textured, split_by="stratified").rows if row.status == "accepted"]
    assert len(set(folds.of_source(groups).tolist())) == len(set(groups)) <= 8
    assert folds.of_source([*groups, "another"]) is None
