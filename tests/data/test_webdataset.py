"""Tars of samples, as WebDataset has them: every member is accounted for, and archives of class folders are what they were."""

from __future__ import annotations

import io
import json
import tarfile

import pytest

from darkroom.core.errors import SourceError
from darkroom.data.sources import open_source
from tests.data.test_ingest import elsewhere, read  # noqa: F401
from tests.data.test_parquet_source import picture

CLASSES = ["cat", "dog"]


def write(path, members, mode="w"):
    """Write a tar of members (name, bytes)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode, format=tarfile.PAX_FORMAT) as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def samples(count, part="cls", first=0, folder=""):
    """Return members of samples, whose class is told by one part."""
    content = {
        "cls": lambda i: str(i % 2).encode(), "txt": lambda i: CLASSES[i % 2].encode() + b"\n",
        "json": lambda i: json.dumps({"label": CLASSES[i % 2], "width": 24}).encode(),
    }[part]  # fmt: skip
    return [
        member for i in range(first, first + count)
        for member in ((f"{folder}{i:04}.png", picture(i)), (f"{folder}{i:04}.{part}", content(i)))
    ]  # fmt: skip


@pytest.mark.parametrize("part", ["cls", "json", "txt"])
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_part_beside_the_image_is_its_label(tmp_path, part, mode):
    """Each image has the label of its own key, from `.cls`, `.json` or `.txt`; the part is listed as one."""
    data = read(write(tmp_path / "a.tar", samples(60, part), mode))
    names = ["0", "1"] if part == "cls" else CLASSES
    assert {row.path: row.label for row in data.rows if row.status == "accepted"} == {
        f"{i:04}.png": names[i % 2] for i in range(60)
    }
    assert [row.reason for row in data.rows if row.status == "ignored"] == ["sample_part"] * 60


def test_a_text_in_json_names_the_number_in_cls(tmp_path):
    """Where a sample has several labels, a text in its json counts before the number in its cls."""
    members = [*samples(6), *(member for member in samples(6, "json") if member[0].endswith("json"))]
    with open_source(write(tmp_path / "a.tar", members)) as source:
        assert {file.label for file in source.files if not file.ignored} == set(CLASSES)


def test_shards_are_splits_by_their_names(tmp_path):
    """Tars of a folder are read together, each a part of the split that it is named for; equal keys in two are two images."""
    for i, (name, count) in enumerate((("train-000000", 8), ("train-000001", 8), ("val-000000", 4), ("test-000000", 4))):
        members = [(member.replace(f"{100 * i:04}", "0000"), content) for member, content in samples(count, "cls", 100 * i)]
        write(tmp_path / "shards" / f"{name}.tar", members)
    with open_source(tmp_path / "shards") as source:
        images = [file for file in source.files if not file.ignored]
        assert len(images) == 24
        assert {file.split for file in images if file.path.startswith("train")} == {"train"}
        assert [file.path for file in images if file.path.endswith("/0000.png")] == [
            f"{name}.tar/0000.png" for name in ("test-000000", "train-000000", "train-000001", "val-000000")
        ]
        assert [source.read(file) for file in images if file.path.endswith("/0000.png")] == [picture(i) for i in (300, 0, 100, 200)]
    assert read(tmp_path / "shards").split("val")


def test_odd_members_have_their_reasons(tmp_path):
    """Two members of a name, paths that lead out, samples without label or image, further images, and no picture are listed."""
    odd = [
        ("0000.png", picture(500)), ("../evil.png", picture(501)), ("../evil.cls", b"0"), ("bare.png", picture(502)),
        ("alone.cls", b"1"), ("0001.seg.png", picture(503)), ("0002.webp", picture(504)), ("broken.png", b"x"),
        ("broken.cls", b"1"), ("minus.png", picture(505)), ("minus.cls", b"-1"), ("deep/er/0000.png", picture(506)),
        ("deep/er/0000.cls", b"1"),
    ]  # fmt: skip
    data = read(write(tmp_path / "a.tar", [*samples(60), *odd]))
    assert len(data.rows) == 133
    reasons = {row.path: row.reason for row in data.rows if row.path != "0000.png" and not row.path.endswith("cls")}
    assert {path: reason for path, reason in reasons.items() if reason} == {
        "../evil.png": "leaves_source", "bare.png": "unlabelled", "0001.seg.png": "sample_part", "0002.webp": "sample_part",
        "broken.png": "not_an_image", "minus.png": "unlabelled",
    }  # fmt: skip
    assert sorted(row.reason for row in data.rows if row.path == "0000.png") == ["", "superseded"]
    assert {row.path: row.reason for row in data.rows}["alone.cls"] == "no_image"
    assert {row.path: row.label for row in data.rows}["deep/er/0000.png"] == "1"


def test_archives_of_class_folders_stay_what_they_were(tmp_path):
    """Sidecars of JSON beside the images of class folders change neither classes nor splits; nor does a table of flat images."""
    plain = [(f"{label}/{i}.png", picture(100 * k + i)) for k, label in enumerate(CLASSES) for i in range(30)]
    sidecars = [(name.replace(".png", ".json"), b'{"label": "x", "iso": 100}') for name, _ in plain]
    expected = {row.path: (row.label, row.split) for row in read(write(tmp_path / "plain.tar", plain)).rows}
    data = read(write(tmp_path / "beside.tar", [*plain, *sidecars]))
    assert {row.path: (row.label, row.split) for row in data.rows if row.status == "accepted"} == expected
    table = "path,label\n" + "".join(f"{i}.png,{CLASSES[i % 2]}\n" for i in range(30))
    flat = [*((f"{i}.png", picture(i)) for i in range(30)), *((f"{i}.json", b'{"label": "x"}') for i in range(30))]
    with open_source(write(tmp_path / "table.tar", [*flat, ("labels.csv", table.encode())])) as source:
        assert {file.label for file in source.files if file.label} == set(CLASSES)


def test_a_name_that_is_no_utf8_is_escaped(tmp_path):
    """A sample whose name is no UTF-8 is one by its bytes."""
    members = [*samples(10), ("caf\udce9.png", picture(90)), ("caf\udce9.cls", b"1")]
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT) as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    with open_source(tmp_path / "a.tar") as source:
        assert {file.path: file.label for file in source.files}["caf\\xe9.png"] == "1"


def test_captions_are_no_labels(tmp_path):
    """Texts that nearly all differ are refused with the way to write classes."""
    members = [m for i in range(60) for m in ((f"{i}.png", picture(i)), (f"{i}.txt", f"a photograph, the {i}th".encode()))]
    with pytest.raises(SourceError, match="captions") as caught, open_source(write(tmp_path / "a.tar", members)):
        pass
    assert ".cls" in caught.value.remedy


@pytest.mark.parametrize("part", [0.5, 0.01, 0])
def test_a_shard_that_is_cut_off_is_refused_by_its_name(tmp_path, part):
    """A tar that ends within an image, or has nothing, is an error that names it; one that ends between two has a warning."""
    write(tmp_path / "shards" / "test-0.tar", samples(20))
    path = write(tmp_path / "shards" / "train-0.tar", samples(60))
    content = path.read_bytes()
    with tarfile.open(path) as archive:
        start = archive.getmember("0040.png").offset
    path.write_bytes(content[: start + 700 if part > 0.1 else int(len(content) * part)])
    with pytest.raises(SourceError, match=r"train-0\.tar is a damaged archive") as caught, open_source(path.parent):
        pass
    assert "copy it again" in caught.value.remedy
    path.write_bytes(content[:start])
    with open_source(path.parent) as source:
        assert any("train-0.tar has no end mark" in note for note in source.notes)
