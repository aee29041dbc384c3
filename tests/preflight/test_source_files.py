"""What DVC cannot hash is found and named, without reading a file."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from darkroom.core.errors import SourceError
from darkroom.data import manifest
from darkroom.data.source_row import SourceRow
from darkroom.preflight import source_files


def not_utf8(folder: Path) -> None:
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.jpg")).write_bytes(b"x")


def folder_not_utf8(folder: Path) -> None:
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9")).mkdir()


def dangling(folder: Path) -> None:
    (folder / "gone.jpg").symlink_to("/nonexistent/x.jpg")


def loop(folder: Path) -> None:
    (folder / "loop.jpg").symlink_to("loop.jpg")


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe.jpg")


def linked_pipe(folder: Path) -> None:
    os.mkfifo(folder.parent.parent / "pipe")
    (folder / "linked.jpg").symlink_to(folder.parent.parent / "pipe")


def unix_socket(folder: Path) -> None:
    here = os.getcwd()
    os.chdir(folder)  # the name of a socket has 107 bytes at most
    with socket.socket(socket.AF_UNIX) as endpoint:
        endpoint.bind("socket.jpg")
    os.chdir(here)


def device(folder: Path) -> None:
    (folder / "null.jpg").symlink_to("/dev/null")


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (not_utf8, r"caf\xe9.jpg"), (folder_not_utf8, r"caf\xe9"), (dangling, "gone.jpg"), (loop, "loop.jpg"),
        (pipe, "pipe.jpg"), (linked_pipe, "linked.jpg"), (unix_socket, "socket.jpg"), (device, "null.jpg"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)  # fmt: skip
def test_what_dvc_cannot_hash_is_named(make, name, folder):
    """DVC stops at such a file without naming it, or waits at a pipe for ever; here its path is in the message."""
    make(folder / "cat")
    with pytest.raises(SourceError) as error:
        source_files.check(folder)
    assert f"cat/{name}" in error.value.problem
    assert error.value.remedy


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_cannot_be_read_is_named(kind, folder, monkeypatch):
    """A file or folder without the right to read it is named with the command that gives the right."""
    path = folder / "dog/3.png" if kind == "file" else folder / "dog"
    access, scandir = os.access, os.scandir

    def refuse(folder: str) -> object:
        if Path(folder) == path:
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "access", lambda file, mode: Path(file) != path and access(file, mode))
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(SourceError, match=str(path)) as error:
        source_files.check(folder)
    assert "chmod" in error.value.remedy


def test_others_of_the_kind_are_counted(folder):
    """One message names the first file by name, and how many more there are."""
    for name in "cab":
        (folder / "cat" / f"{name}.jpg").symlink_to("/nonexistent/x.jpg")
    with pytest.raises(SourceError, match=r"cat/a\.jpg \(and 2 more\)"):
        source_files.check(folder)


def test_links_to_files_count_and_linked_folders_are_not_entered(folder):
    """DVC hashes what a link to a file leads to, and does not enter a linked folder, so that no loop is one."""
    before = source_files.check(folder)
    (folder / "cat/link.png").symlink_to(folder / "dog/0.png")
    (folder / "cat/up").symlink_to(folder)
    after = source_files.check(folder)
    assert (after.files, after.bytes) == (before.files + 1, before.bytes + (folder / "dog/0.png").stat().st_size)
    assert before.files == 60


@pytest.mark.parametrize("name", ["a\nb.jpg", "a\tb.jpg", "a\\b.jpg", "ü.jpg", "-rf.jpg"])
def test_odd_names_that_dvc_hashes_pass(name, folder):
    """DVC hashes names with line breaks, backslashes and any Unicode: they are no mistake."""
    (folder / "cat" / name).write_bytes(b"x")
    assert source_files.check(folder).files == 61


@pytest.mark.parametrize("kind", ["pipe", "device", "dangling", "missing", "below a file"])
def test_a_source_that_is_no_folder_or_file_is_named(kind, tmp_path):
    """A pipe, a device, a link to nowhere and a missing folder are refused, and none is opened."""
    path = Path("/dev/null") if kind == "device" else tmp_path / "source"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "dangling":
        path.symlink_to("/nonexistent/x")
    elif kind == "below a file":
        path.write_bytes(b"")
        path /= "photos"
    with pytest.raises(SourceError, match=str(path)):
        source_files.check(path)


def test_the_nearest_name_is_suggested(folder):
    """A misspelt folder is answered with the nearest name beside it."""
    with pytest.raises(SourceError, match='did you mean "photos"'):
        source_files.check(folder.with_name("photo"))


def test_a_file_that_came_as_ingest_ended_is_told(tmp_path, monkeypatch):
    """DVC counted it, and the manifest does not have it: without this `dvc repro` would say for ever that all is up to date."""
    monkeypatch.chdir(tmp_path)
    for name in ("photos/cat/0.jpg", "photos/cat/1.jpg", "photos/dog/0.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    manifest.write(tmp_path / "manifest.parquet", [SourceRow(f"photos/{name}") for name in ("cat/0.jpg", "dog/0.jpg")])
    lock = "stages: {ingest: {cmd: x, deps: [{path: photos, md5: a.dir, nfiles: %d}], outs: [{path: manifest.parquet, md5: b}]}}"
    (tmp_path / "dvc.lock").write_text(lock % 3)
    sentence = source_files.overlooked(Path("photos"), 3)
    assert "has 3 files, and ingest has read 2" in sentence
    assert "`dvc repro -f ingest`" in sentence
    (tmp_path / "dvc.lock").write_text(lock % 2)  # it came later: the next run reads it
    assert source_files.overlooked(Path("photos"), 3) == ""
    (tmp_path / "photos/cat/1.jpg").unlink()
    assert source_files.overlooked(Path("photos"), 2) == ""
    (tmp_path / "dvc.lock").unlink()
    assert source_files.overlooked(Path("photos"), 2) == ""
