"""Folders, archives, tables and arrays as sources: every file is listed, nothing leads out, a wrong source
has a remedy.
"""

from __future__ import annotations

import io
import os
import stat
import tarfile
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from darkroom.core.errors import SourceError
from darkroom.data import file_sources
from darkroom.data import ingest as room
from tests.data.test_ingest import elsewhere, options, read  # noqa: F401


def rows_of(source, **changes):
    return {row.path: row for row in read(source, **changes).rows}


def picture(seed: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 24, 3), np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def write_tar(path: Path, folder: Path, mode: str, top: str = "") -> Path:
    with tarfile.open(path, mode) as archive:
        archive.add(folder, arcname=top or ".")
    return path


def write_zip(path: Path, folder: Path, top: str = "") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.png")):
            archive.write(file, os.path.join(top, file.relative_to(folder)))
    return path


@pytest.mark.parametrize("kind", ["tar", "tar wrapped", "tar.gz", "tar.xz", "tar.bz2", "zip", "zip wrapped"])
def test_an_archive_is_the_folder_that_it_packs(folder, tmp_path, kind):
    """The same pictures, labels and splits as from the folder, also where the archive wraps it in a folder of
    its own.
    """
    top = "photos" if "wrapped" in kind else ""
    if kind.startswith("zip"):
        source = write_zip(tmp_path / "a.zip", folder, top)
    else:
        source = write_tar(tmp_path / "a.tar", folder, {"tar.gz": "w:gz", "tar.xz": "w:xz", "tar.bz2": "w:bz2"}.get(kind, "w"), top)
    expected = {(row.label, row.split, row.sha256, row.pixel_hash) for row in read(folder).rows}
    data = read(source)
    assert {(row.label, row.split, row.sha256, row.pixel_hash) for row in data.rows} == expected
    assert len(data.rows) == 60


def test_nothing_leads_out_of_a_tar(folder, tmp_path):
    """Absolute paths, dots, links and devices are listed with their reasons; no file is written anywhere."""
    source = tmp_path / "hostile.tar"
    write_tar(source, folder, "w")
    with tarfile.open(source, "a") as archive:
        for name in ("/etc/cat/evil.png", "cat/../../evil.png", "../evil/evil.png"):
            member = tarfile.TarInfo(name)
            member.size = len(picture(1))
            archive.addfile(member, io.BytesIO(picture(1)))
        for name, kind in (
            ("cat/soft.png", tarfile.SYMTYPE),
            ("cat/hard.png", tarfile.LNKTYPE),
            ("cat/pipe.png", tarfile.FIFOTYPE),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
    before = {path for path in tmp_path.rglob("*") if "cache" not in path.parts}
    rows = rows_of(source)
    assert {rows[name].reason for name in ("/etc/cat/evil.png", "cat/../../evil.png", "../evil/evil.png")} == {"leaves_source"}
    assert {rows[name].reason for name in ("cat/soft.png", "cat/hard.png")} == {"linked_file"}
    assert rows["cat/pipe.png"].reason == "unreadable"
    after = {path for path in tmp_path.rglob("*") if "cache" not in path.parts and ".darkroom" not in path.parts}
    assert after == before


def test_nothing_leads_out_of_a_zip(folder, tmp_path):
    """The same of a zip; an encrypted member and one whose checksum is wrong are quarantined, litter is
    ignored.
    """
    source = write_zip(tmp_path / "hostile.zip", folder)
    with zipfile.ZipFile(source, "a") as archive:
        archive.writestr("../evil.png", picture(1))
        archive.writestr("cat\\..\\..\\evil2.png", picture(1))
        link = zipfile.ZipInfo("cat/link.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("__MACOSX/cat/._0.png", b"x")
        archive.writestr("cat/wrong.png", picture(2))
    content = source.read_bytes()
    at = content.index(picture(2)[50:90])
    source.write_bytes(content[:at] + b"\0" * 8 + content[at + 8 :])
    rows = rows_of(source)
    assert rows["../evil.png"].reason == rows["cat/../../evil2.png"].reason == "leaves_source"
    assert rows["cat/link.png"].reason == "linked_file"
    assert rows["cat/wrong.png"].reason == "corrupt"
    assert rows["__MACOSX/cat/._0.png"].status == "ignored"


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_of_two_members_of_one_name_the_last_counts(folder, tmp_path, kind):
    """Both have a row; the earlier is ignored, as unpacking would have overwritten it."""
    if kind == "tar":
        source = write_tar(tmp_path / "twice.tar", folder, "w")
        with tarfile.open(source, "a") as archive:
            member = tarfile.TarInfo("./cat/0.png")
            member.size = len(picture(9))
            archive.addfile(member, io.BytesIO(picture(9)))
    else:
        source = write_zip(tmp_path / "twice.zip", folder)
        with zipfile.ZipFile(source, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("cat/0.png", picture(9))
    twice = [row for row in read(source).rows if row.path == "cat/0.png"]
    assert sorted(row.reason for row in twice) == ["", "superseded"]
    assert len({row.status for row in twice}) == 2


@pytest.mark.parametrize("limit", ["MAX_FILES", "MAX_BYTES"])
@pytest.mark.parametrize("kind", ["w", "w:gz", "zip"])
def test_an_archive_has_limits(folder, tmp_path, monkeypatch, limit, kind):
    """Too many members, or too many bytes when unpacked, are refused before they are read."""
    source = write_zip(tmp_path / "a.zip", folder) if kind == "zip" else write_tar(tmp_path / "a.tar", folder, kind)
    monkeypatch.setattr(file_sources, limit, 10)
    with pytest.raises(SourceError, match="holds"):
        read(source)


@pytest.mark.parametrize("kind", ["w", "w:gz", "zip"])
def test_a_damaged_archive_says_so(folder, tmp_path, kind):
    """Half an archive is refused, not read as far as it goes."""
    source = write_zip(tmp_path / "a.zip", folder) if kind == "zip" else write_tar(tmp_path / "a.tar", folder, kind)
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    with pytest.raises(SourceError) as error:
        read(source)
    assert error.value.remedy


@pytest.fixture
def flat(folder, tmp_path):
    """Return a folder of files that are not sorted into classes."""
    (tmp_path / "flat").mkdir()
    for path in folder.rglob("*.png"):
        path.rename(tmp_path / "flat" / f"{path.parent.name}-{path.name}")
    return tmp_path / "flat"


def lines(flat: Path) -> dict[str, list[str]]:
    names = sorted(path.name for path in flat.glob("*.png"))
    return {"path": names, "label": [name.split("-")[0] for name in names]}


@pytest.mark.parametrize("kind", ["csv", "parquet", "tar"])
def test_a_table_labels_a_flat_folder(flat, tmp_path, kind):
    """CSV or Parquet beside the files, also in an archive: files have its labels, the table is ignored."""
    table = lines(flat)
    (flat / "extra.png").write_bytes(picture(3))
    if kind == "parquet":
        pq.write_table(pa.table(table), flat / "labels.parquet")
    else:
        text = "\n".join(
            ["Path,Label", *(f"./{path},{label}" for path, label in zip(*table.values(), strict=True)), "gone.png,cat"]
        )
        (flat / "labels.csv").write_text("\ufeff" + text, encoding="utf-8")
    source = write_tar(tmp_path / "a.tar", flat, "w") if kind == "tar" else flat
    data = read(source)
    rows = {row.path: row for row in data.rows}
    assert data.classes == ("cat", "dog")
    assert rows["extra.png"].reason == "not_in_table"
    assert [row.reason for row in data.rows if row.path.startswith("labels.")] == ["table"]
    assert len(data.rows) == len(list(flat.iterdir()))
    assert [row.path for row in data.missing] == ([] if kind == "parquet" else ["gone.png"])


def test_a_table_gives_splits_and_groups(flat):
    """Given splits are kept, images of a group share a split, and a group that the table tears apart is
    named.
    """
    table = lines(flat)
    count = len(table["path"])
    table["split"] = ["val" if i % 10 == 0 else "train" for i in range(count)]
    table["group"] = [f"animal {i // 4}" for i in range(count)]
    pq.write_table(pa.table(table), flat / "labels.parquet")
    data = read(flat)
    for row in data.rows:
        if row.status == "accepted":
            own = table["split"][table["path"].index(row.path)]
            assert row.split == "val" if own == "val" else row.split in ("train", "test")
    rows = {row.path: row for row in data.rows}
    assert "group animal 0" in {members[0].group for members in data.groups.torn}
    assert [rows[table["path"][i]].reason for i in range(4)] == ["", *["group_across_splits"] * 3]
    splits = {row.path: row.split for row in read(flat, on_leak="keep").rows if row.status == "accepted"}
    assert [splits[table["path"][i]] for i in range(4)] == ["val", "train", "train", "train"]
    del table["split"]
    pq.write_table(pa.table(table), flat / "labels.parquet")
    groups: dict[str, set[str]] = {}
    for row in read(flat).rows:
        if row.status == "accepted":
            groups.setdefault(row.group, set()).add(row.split)
    assert len(groups) == 15
    assert all(len(names) == 1 for names in groups.values())


def test_tables_that_contradict_themselves_are_refused(flat):
    """Contradictions, unknown splits and two tables are refused.

    A line without a label, and one that leads out, are listed.
    """
    table = lines(flat)
    first = table["path"][0]
    rest = "".join(f"{path},{label}\n" for path, label in zip(table["path"][1:], table["label"][1:], strict=True))
    for content in (f"path,label\n{first},cat\n{first},dog\n", f"path,label,split\n{first},cat,elsewhere\n"):
        (flat / "labels.csv").write_text(content + rest)
        with pytest.raises(SourceError):
            read(flat)
    (flat / "labels.csv").write_text(f"path,label\n{first},\n../secret.png,cat\n" + rest)
    data = read(flat)
    assert {row.path: row.reason for row in data.quarantined()} == {first: "unlabelled", "../secret.png": "leaves_source"}
    (flat / "more.csv").write_text("path,label\n" + rest)
    with pytest.raises(SourceError, match="2 tables"):
        read(flat)
    with pytest.raises(SourceError, match="is a table"):
        read(flat / "more.csv")


def test_tables_are_read_as_people_write_them(flat):
    """Semicolons, blanks, accents composed in another way, labels that are no text: files have the labels
    that are meant.
    """
    names = sorted(path.name for path in flat.glob("*.png"))
    (flat / names[0]).rename(flat / "caf\u00e9.png")
    names[0] = "cafe\u0301.png"
    (flat / "labels.csv").write_text(
        "path;label\n" + "".join(f"{name}; {i % 2} \n" for i, name in enumerate(names)), encoding="utf-8"
    )
    assert read(flat).classes == ("0", "1")
    (flat / "labels.csv").unlink()
    table = {"image": [name.encode() for name in names], "class": [float("nan") if i == 5 else i % 2 for i in range(len(names))]}
    pq.write_table(pa.table(table), flat / "labels.parquet")
    data = read(flat)
    assert data.classes == ("0", "1")
    assert [row.reason for row in data.quarantined()] == ["unlabelled"]


def test_a_table_that_names_nothing_and_one_that_cannot_be_read(flat, folder):
    """A table whose files do not exist, or that cannot be read, is named.

    Beside class folders an unreadable one is ignored.
    """
    (flat / "labels.csv").write_text("path,label\nelsewhere/a.png,cat\nelsewhere/b.png,dog\n")
    with pytest.raises(SourceError, match=r"labels.csv names 2 files.*elsewhere/a.png"):
        read(flat)
    (flat / "labels.csv").write_bytes(b"path,label\n\xff\xfe,cat\n")
    with pytest.raises(SourceError, match=r"labels.csv names 1 file,"):
        read(flat)
    (flat / "cat").mkdir()
    (flat / "dog").mkdir()
    for path in list(flat.glob("*.png")):
        path.rename(flat / path.name[:3] / path.name)
    assert read(flat).classes == ("cat", "dog")


@pytest.mark.parametrize("style", ["parts", "whole", "keras", "channels first", "folder"])
def test_arrays_are_a_source(tmp_path, style):
    """An .npz, or a folder with one, gives its images.

    Its own test split is kept, and names replace numbers.
    """
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (80, 12, 12, 3), np.uint8), np.arange(80) % 2
    names = np.array(["cat", "dog"])
    (tmp_path / "set").mkdir()
    file = tmp_path / "set" / "set.npz"
    if style == "whole":
        np.savez_compressed(file, images=images[..., 0], labels=labels, class_names=names)
    elif style == "keras":
        np.savez(file, x_train=images[:60], y_train=labels[:60, None], x_test=images[60:], y_test=labels[60:, None])
    elif style == "channels first":
        np.savez(file, images=images.transpose(0, 3, 1, 2), labels=names[labels])
    else:
        parts = {"train_images": images[:60], "train_labels": labels[:60], "test_images": images[60:], "test_labels": labels[60:]}
        np.savez(file, **parts, class_names=names)
    data = read(file.parent if style == "folder" else file)
    assert data.classes == (("0", "1") if style == "keras" else ("cat", "dog"))
    assert len(data.rows) == 80
    if style in ("parts", "folder", "keras"):
        assert [row.path for row in data.split("test")] == [f"test/{i:02}" for i in range(20)]
    loaded = np.concatenate([data.loaded[name][0] for name in ("train", "val", "test")])
    assert loaded.shape == (80, 16, 16, 3)


@pytest.mark.parametrize(
    "arrays",
    [
        {"a": np.zeros(3)},
        {"images": np.zeros((4, 8, 8)), "labels": np.zeros(4, int)},
        {"images": np.zeros((4, 8, 8), np.uint8), "labels": np.zeros(3, int)},
        {"images": np.array([None, {}]), "labels": np.zeros(2, int)},
        {"images": np.zeros((4, 8, 8), np.uint8), "labels": np.arange(4), "class_names": np.array(["a"])},
    ],
)
def test_arrays_that_are_no_images_are_refused(tmp_path, arrays):
    """No images, floats, too few labels, objects, labels without a name: an error with a remedy."""
    np.savez(tmp_path / "set.npz", **arrays)
    with pytest.raises(SourceError) as error:
        read(tmp_path / "set.npz")
    assert error.value.remedy


@pytest.mark.slow
def test_real_arrays(shared):
    """The CIFAR-10 subset as it is: 3,660 images, its 660 test images kept as the test split."""
    data = read(shared / "cifar10-subset.npz", image_size=32)
    assert len(data.rows) == 3660
    assert len(data.classes) == 10
    assert len(data.split("test")) == 660


@pytest.mark.parametrize(
    "names",
    [("val", "test"), ("train", "val", "docs"), ("train", "training"), ("only",)],
)
def test_ambiguous_layouts_are_refused(folder, tmp_path, names):
    """Splits without training images, split folders beside others, two folders for one split, one class: none
    is guessed.
    """
    for i, name in enumerate(names):
        for label in ("cat", "dog"):
            if name == "only" and label == "dog":
                continue
            (tmp_path / "source" / name / label).mkdir(parents=True)
            (tmp_path / "source" / name / label / "0.png").write_bytes(picture(2 * i + (label == "cat")))
    with pytest.raises(SourceError) as error:
        read(tmp_path / "source")
    assert error.value.remedy


def test_a_wrapped_archive_may_hold_a_licence(folder, tmp_path):
    """A file beside the classes inside the wrapping folder is ignored.

    A folder in a folder names the one below.
    """
    (folder / "LICENSE.txt").write_text("x")
    data = read(write_tar(tmp_path / "photos.tgz", folder, "w:gz", "flower_photos"))
    assert data.classes == ("cat", "dog")
    assert [row.reason for row in data.rows if row.path.endswith("LICENSE.txt")] == ["no_image"]
    (tmp_path / "outer").mkdir()
    folder.rename(tmp_path / "outer" / "inner")
    with pytest.raises(SourceError) as error:
        read(tmp_path / "outer")
    assert "outer/inner" in error.value.remedy


def test_train_beside_another_folder_is_not_guessed(folder, tmp_path):
    """A train folder of classes beside something else is refused, where one more split folder would be."""
    (tmp_path / "source" / "sample").mkdir(parents=True)
    (tmp_path / "source" / "sample" / "0.png").write_bytes(picture(0))
    folder.rename(tmp_path / "source" / "train")
    with pytest.raises(SourceError, match="beside them sample"):
        read(tmp_path / "source")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["w", "w:gz", "zip", "npz"])
def test_damaged_archives_never_end_in_a_traceback(folder, tmp_path, kind):
    """Random damage to an archive or an .npz gives a data set or an error with a remedy."""
    source = tmp_path / ("a.npz" if kind == "npz" else "a.zip" if kind == "zip" else "a.tar")
    if kind == "npz":
        np.savez_compressed(source, images=np.random.default_rng(0).integers(0, 99, (40, 9, 9), np.uint8), labels=np.arange(40) % 2)
    elif kind == "zip":
        write_zip(source, folder)
    else:
        write_tar(source, folder, kind)
    sound, draw = source.read_bytes(), np.random.default_rng(1)
    for _ in range(40):
        damaged = bytearray(sound)
        for at in draw.integers(0, len(damaged), 6):
            damaged[at] = int(draw.integers(256))
        source.write_bytes(damaged)
        with suppress(SourceError):
            read(source, max_quarantined=1)


def test_what_fails_after_opening_is_not_blamed_on_the_source(folder, tmp_path):
    """An error in the block that uses a data set comes out as it is."""
    np.savez(
        tmp_path / "a.npz",
        images=np.zeros((40, 9, 9), np.uint8) + np.arange(40, dtype=np.uint8)[:, None, None],
        labels=np.arange(40) % 2,
    )
    for source in (folder, write_zip(tmp_path / "a.zip", folder), tmp_path / "a.npz"):
        for mistake in (ValueError("a mistake"), PermissionError("a right"), EOFError("an end")):
            with pytest.raises(type(mistake), match=str(mistake)), room.ingest(source, options(), cache_folder=tmp_path / "cache"):
                raise mistake


def test_labels_of_arrays_are_trimmed(tmp_path):
    """Blanks do not make another class, and an image without a label is quarantined."""
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "a.npz",
        images=rng.integers(0, 256, (60, 9, 9), np.uint8),
        labels=np.array(["cat", "cat ", "dog"] * 19 + ["", "cat", "dog"]),
    )
    data = read(tmp_path / "a.npz")
    assert data.classes == ("cat", "dog")
    assert [row.reason for row in data.quarantined()] == ["unlabelled"]


def test_a_class_may_be_called_train(folder, tmp_path):
    """One split word among other classes is a class: train, bus, car."""
    (folder / "cat").rename(folder / "train")
    assert read(folder).classes == ("dog", "train")


def test_a_wrong_source_says_what_was_looked_for_and_found(folder, tmp_path):
    """A missing path names its nearest neighbour, a file of another kind the kinds that are read, a flat
    folder its layout.
    """
    with pytest.raises(SourceError, match='did you mean "photos"'):
        read(tmp_path / "fotos")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(SourceError) as error:
        read(tmp_path / "notes.txt")
    assert ".npz" in error.value.remedy
    for path in list(folder.rglob("*.png")):
        path.rename(folder / f"{path.parent.name}{path.name}")
    with pytest.raises(SourceError, match=r"looked for <class>/<image>.*60 \(lies outside any class folder\)"):
        read(folder)


def test_files_of_mnist_as_a_source_name_the_way(tmp_path):
    """A folder of MNIST's own files says how they become a source."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "train-images-idx3-ubyte.gz").write_bytes(b"x")
    with pytest.raises(SourceError) as error:
        read(tmp_path / "files")
    assert "fetch.source" in error.value.remedy


def test_a_path_that_is_too_long_for_the_system_is_refused_clearly(folder):
    """Over 255 bytes of path are read; a path longer than the system takes is refused with a remedy."""
    deep = folder / "cat"
    for _ in range(4):
        deep = deep / ("x" * 200)
    deep.mkdir(parents=True)
    (deep / "deep.png").write_bytes(picture(5))
    assert any(len(row.path) > 800 and row.status == "accepted" for row in read(folder).rows)
    here = os.getcwd()
    try:
        os.chdir(deep)
        for _ in range(18):
            os.mkdir("y" * 250)
            os.chdir("y" * 250)
    finally:
        os.chdir(here)
    with pytest.raises(SourceError) as error:
        read(folder)
    assert "shorten" in error.value.remedy
