"""Images in Parquet files, as the Hugging Face Hub has them: every row is accounted for, and none is read before it is needed."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from darkroom.core.errors import SourceError
from darkroom.data import parquet_source
from darkroom.data.sources import open_source
from tests.data.test_ingest import elsewhere, read  # noqa: F401

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
CLASSES = ["cat", "dog", "owl"]


def picture(seed: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 24, 3), np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def write(path, rows, classes=CLASSES, label="label", image="image", kind=None, row_group_size=4, **columns):
    """Write rows of (bytes, path, label) as `push_to_hub` does."""
    images = pa.array([None if content is None else {"bytes": content, "path": name} for content, name, _ in rows], IMAGE)
    labels = pa.array([number for *_, number in rows], kind or pa.int64())
    table = pa.table({image: images, label: labels, **columns})
    features = {image: {"_type": "Image"}, label: {"names": list(classes), "_type": "ClassLabel"}}
    if classes:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=row_group_size)
    return path


def rows(count, first=0, paths=True):
    return [(picture(first + i), f"{first + i}.png" if paths else None, i % len(CLASSES)) for i in range(count)]


def split_rows(folder, **options):
    for i, (name, count) in enumerate((("train-00000-of-00002", 9), ("train-00001-of-00002", 9), ("validation", 6), ("test", 6))):
        write(folder / "data" / f"{name}.parquet", rows(count, 100 * i), **options)
    return folder


def test_the_names_of_shards_are_splits_and_labels_have_the_names_of_the_metadata(tmp_path):
    """Every row has its bytes, its path, its class by name, and the split that its file is named for."""
    folder = split_rows(tmp_path / "hub")
    (folder / "README.md").write_text("x")
    data = read(folder)
    by_path = {row.path: row for row in data.rows}
    assert by_path["README.md"].reason == "no_image"
    assert len(data.rows) == 31
    assert data.classes == ("cat", "dog", "owl")
    with open_source(folder) as source:
        for file in source.files[:-1]:
            number = int(file.path.partition(".")[0])
            assert source.read(file) == picture(number)
            assert file.label == CLASSES[number % 100 % 3]
            assert file.split == ("train", "train", "val", "test")[number // 100]
            assert by_path[file.path].split == file.split


def test_folders_of_shards_are_splits_and_other_folders_a_question(tmp_path):
    """`train/0000.parquet` is of train; shards in folders of other names may hold the same images, and are refused."""
    for name in ("train", "test"):
        write(tmp_path / "hub" / name / "0000.parquet", rows(6, paths=False))
    with open_source(tmp_path / "hub") as source:
        assert [(file.path, file.split) for file in source.files][::6] == [
            ("test/0000.parquet/0", "test"), ("train/0000.parquet/0", "train")
        ]  # fmt: skip
    for name in ("plain", "plain_again"):
        write(tmp_path / "configs" / name / "train-0.parquet", rows(3))
        write(tmp_path / "configs" / name / "test-0.parquet", rows(3))
    with pytest.raises(SourceError, match="2 folders") as caught, open_source(tmp_path / "configs"):
        pass
    assert "plain_again" in caught.value.remedy


def test_an_odd_row_is_listed_with_its_reason(tmp_path):
    """No image, no label (−1 and null), no picture, a path that leads out or that another row has: all rows are there by name."""
    odd = [(None, None, 0), (picture(0), "a.png", -1), (picture(1), "b.png", None), (b"x", "c.png", 1), (picture(2), "../d.png", 1)]
    twice = [(picture(50), "same.png", 0), (picture(51), "same.png", 1), (None, "gone.png", 2)]
    path = write(tmp_path / "one.parquet", [*rows(40, 100), *odd, *twice])
    data = read(path)
    reasons = {row.path: row.reason for row in data.rows[40:]}
    assert reasons == {
        "one.parquet/40": "empty", "a.png": "unlabelled", "b.png": "unlabelled", "c.png": "not_an_image", "one.parquet/44": "",
        "one.parquet/45": "", "one.parquet/46": "", "one.parquet/47": "empty",
    }  # fmt: skip


def test_texts_are_labels_too_and_a_column_may_be_the_split(tmp_path):
    """Labels of text, in a dictionary too, under the names img and labels; a column `split` counts where file names say nothing."""
    texts = [(content, path, CLASSES[number]) for content, path, number in rows(18)]
    splits = pa.array(["train"] * 12 + ["validation"] * 3 + ["test"] * 3)
    kind = pa.dictionary(pa.int8(), pa.string())
    path = write(tmp_path / "a.parquet", texts, (), "labels", "img", kind, split=splits)
    with open_source(path) as source:
        assert [file.label for file in source.files] == [label for *_, label in texts]
        assert [file.split for file in source.files] == ["train"] * 12 + ["val"] * 3 + ["test"] * 3


def test_names_that_are_no_utf8_are_escaped(tmp_path):
    """A path of bytes that are no text is a name of the manifest, with escapes."""
    contents = pa.array([picture(i) for i in range(6)], pa.binary())
    paths = pa.array([b"caf\xe9\\%d.png" % i for i in range(6)], pa.binary())
    paths = pa.StringArray.from_buffers(6, paths.buffers()[1], paths.buffers()[2])
    table = pa.table({"image": pa.StructArray.from_arrays([contents, paths], ["bytes", "path"]), "label": ["a", "b"] * 3})
    pq.write_table(table, tmp_path / "a.parquet")
    with open_source(tmp_path / "a.parquet") as source:
        assert source.files[0].path == "caf\\xe9\\\\0.png"


@pytest.mark.parametrize("size", [0, 100, -40])
def test_a_file_that_is_cut_off_is_refused_by_its_name(tmp_path, size):
    """A Parquet file without its end is an error with a remedy, in a folder too."""
    folder = split_rows(tmp_path / "hub")
    shard = folder / "data" / "validation.parquet"
    shard.write_bytes(shard.read_bytes()[:size])
    with pytest.raises(SourceError, match=r"validation\.parquet cannot be read as a Parquet file") as caught, open_source(folder):
        pass
    assert "copy it again" in caught.value.remedy


def test_damage_within_a_file_costs_its_rows_alone(tmp_path):
    """Rows of a part that cannot be read are quarantined as corrupt; the others are used."""
    path = write(tmp_path / "a.parquet", rows(40), row_group_size=10)
    group = pq.read_metadata(path).row_group(2)
    start = group.column(0).data_page_offset
    content = bytearray(path.read_bytes())
    content[start : start + 60] = b"\xff" * 60
    path.write_bytes(content)
    data = read(path, max_quarantined=0.5)
    assert {row.reason for row in data.rows[20:30]} == {"corrupt"}
    assert {row.reason for row in data.rows[:20] + data.rows[30:]} == {""}


def test_shards_without_rows_are_no_fault(tmp_path):
    """An empty shard is named in a note; shards that are all empty are refused."""
    folder = split_rows(tmp_path / "hub")
    write(folder / "data" / "train-00002-of-00003.parquet", [])
    with open_source(folder) as source:
        assert len(source.files) == 30
        assert any("train-00002-of-00003.parquet" in note for note in source.notes)
    write(tmp_path / "empty.parquet", [])
    with pytest.raises(SourceError, match="no image"), open_source(tmp_path / "empty.parquet"):
        pass


def test_a_split_without_labels_is_drawn(tmp_path):
    """A test split whose labels are all −1, as published without them, is left out, and said so; another one is drawn."""
    folder = tmp_path / "hub"
    write(folder / "train-0.parquet", rows(60))
    write(folder / "test-0.parquet", [(picture(900 + i), f"{900 + i}.png", -1) for i in range(9)])
    data = read(folder)
    assert {row.reason for row in data.rows if row.path.startswith("90")} == {"unlabelled"}
    assert any("test-0.parquet has no labels" in note for note in data.source.notes)
    assert data.split("test")


def test_an_unclear_label_is_a_question(tmp_path):
    """Two ClassLabels of other names, a number beyond the names, and no label at all are errors with the columns' names."""
    two = {"info": {"features": {name: {"names": ["a"], "_type": "ClassLabel"} for name in ("fine_label", "coarse_label")}}}
    table = pa.table({"image": pa.array([{"bytes": picture(0), "path": "a"}], IMAGE), "fine_label": [0], "coarse_label": [0]})
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(two)}), tmp_path / "two.parquet")
    with pytest.raises(SourceError, match="fine_label, coarse_label"), open_source(tmp_path / "two.parquet"):
        pass
    pq.write_table(table.select(["image"]), tmp_path / "none.parquet")
    with pytest.raises(SourceError, match="no column of labels"), open_source(tmp_path / "none.parquet"):
        pass
    beyond = write(tmp_path / "beyond.parquet", [(picture(0), "a", 3)])
    with pytest.raises(SourceError, match="label 3, and 3 names"), open_source(beyond):
        pass


def test_a_hundred_classes_and_a_class_of_one_image(tmp_path):
    """Classes are those of the rows, in the order of names, however many; one image makes a class."""
    names = [f"class {i:03}" for i in range(100)]
    many = [(picture(i), f"{i}.png", i // 3) for i in range(298)]
    data = read(write(tmp_path / "a.parquet", many, names), split_by="stratified")
    assert data.classes == tuple(names)


def test_rows_are_read_in_any_order_and_the_cache_forgets(tmp_path, monkeypatch):
    """Whatever order rows are read in, and however little is kept, each has its own bytes."""
    monkeypatch.setattr(parquet_source, "BATCH_ROWS", 3)
    monkeypatch.setattr(parquet_source, "CACHE_BYTES", 10_000)
    path = write(tmp_path / "a.parquet", rows(40), row_group_size=11)
    with open_source(path) as source:
        for i in np.random.default_rng(0).permutation(40):
            assert source.read(source.files[i]) == picture(i)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is Linux's /proc/self/status")
def test_memory_does_not_grow_with_the_file(tmp_path):
    """Of 300 MB in row groups of 10 MB a reader takes less than half, with its imports: rows are read some at a time."""
    content = np.random.default_rng(0).integers(0, 256, 200_000, np.uint8).tobytes()
    with pq.ParquetWriter(tmp_path / "big.parquet", pa.schema([("image", IMAGE), ("label", pa.string())])) as writer:
        for start in range(0, 1500, 50):
            images = pa.array([{"bytes": content + bytes([i % 250]) * i, "path": None} for i in range(start, start + 50)], IMAGE)
            writer.write_table(pa.table({"image": images, "label": ["a", "b"] * 25}))
    code = f"""
from pathlib import Path
import pyarrow.parquet
from darkroom.data import parquet_source
from darkroom.data.sources import open_source
parquet_source.CACHE_BYTES = 8_000_000
def peak():  # ru_maxrss would begin with what the parent had
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
before = peak()
with open_source(Path({str(tmp_path / "big.parquet")!r})) as source:
    assert sum(len(source.read(file)) for file in source.files) > 300e6
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) * 1024 < 150e6
