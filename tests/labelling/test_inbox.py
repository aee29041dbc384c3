"""The images of an inbox: their table of labels, and how they come into the source."""

from __future__ import annotations

from pathlib import Path

import pytest

from darkroom.core.errors import SourceError
from darkroom.data import manifest, sources
from darkroom.labelling import inbox
from tests.labelling import label_project
from tests.labelling.label_project import ROWS, row


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    label_project.enter(tmp_path, monkeypatch)


def test_names_come_back_from_the_table_and_are_no_formula():
    """What was written is read again; a spreadsheet runs none of it."""
    labels = {"=1+1.png": "cat", "a, b.png": "+dog", "deep/ü.png": "cat", "-x.png": "@y"}
    inbox.write(Path("new"), labels)
    assert inbox.read(Path("new")) == labels
    assert not [line for line in Path("new/labels.csv").read_text().splitlines() if line[0] in "=+-@" or ",+" in line]


def test_ingest_reads_the_table():
    """The inbox with its table is a source of its own, too."""
    inbox.write(Path("new"), {f"{i}.png": "cat" if i % 2 else "dog" for i in range(6)})
    with sources.open_source(Path("new")) as source:
        assert {file.path: file.label for file in source.files if file.label} == inbox.read(Path("new"))


def test_images_are_copied_into_the_folders_of_their_classes():
    """Also of a new class, beside the others; nothing is moved, nothing is written over, and twice is once."""
    label_project.write(Path("new/deep/1.png"), 7)
    labels = {"0.png": "cat", "1.png": "cat", "deep/1.png": "emu", "gone.png": "dog"}
    done = inbox.add(Path("new"), labels, Path("photos"), ROWS)
    assert done.copied == ["cat/0.png", "emu/deep-1.png"]
    assert set(done.left_out) == {"1.png", "gone.png"}  # photos/cat/1.png is another image
    assert Path("photos/cat/0.png").read_bytes() == Path("new/0.png").read_bytes()
    assert inbox.add(Path("new"), labels, Path("photos"), ROWS).present == ["0.png", "deep/1.png"]


def test_of_a_source_with_splits_new_images_are_for_training():
    """They go to the folder of the training images of their class."""
    rows = [row(f"{split}/{label}/{i}.png", split, source_label=label)
            for split in ("train", "val", "test") for label in ("cat", "dog") for i in range(2)]  # fmt: skip
    done = inbox.add(Path("new"), {"0.png": "dog", "1.png": "emu"}, Path("photos"), rows)
    assert done.copied == ["train/dog/0.png", "train/emu/1.png"]


@pytest.mark.parametrize("rows", [[row("all/1.png", source_label="cat")], [row("1.png", source_label="cat")]])
def test_a_source_without_class_folders_is_refused_with_a_remedy(rows: list[manifest.Row]):
    """Of a table or an archive a person adds the images."""
    with pytest.raises(SourceError) as caught:
        inbox.add(Path("new"), {"0.png": "cat"}, Path("photos"), rows)
    assert "table" in caught.value.remedy
    with pytest.raises(SourceError, match="no folder"):
        inbox.add(Path("new"), {"0.png": "cat"}, Path("photos.zip"), rows)


def test_a_folder_of_shards_gets_no_image_beside_them():
    """An image beside Parquet files or tars would be read in their place: none is copied."""
    Path("shards").mkdir()
    Path("shards/train-000000.tar").write_bytes(b"x")
    with pytest.raises(SourceError, match=r"within files, such as train-000000\.tar"):
        inbox.add(Path("new"), {"0.png": "cat"}, Path("shards"), ROWS)
    assert [path.name for path in Path("shards").iterdir()] == ["train-000000.tar"]


def test_another_table_of_that_name_is_refused():
    """A person's own labels.csv is neither misread nor written over."""
    Path("new/labels.csv").write_text("a,b,c\n1,2,3\n")
    with pytest.raises(SourceError, match="path and label"):
        inbox.read(Path("new"))
