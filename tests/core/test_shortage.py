"""A full disk and too little memory are one sentence, whatever library reports them."""

from __future__ import annotations

import errno
import io
import re
import sqlite3
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from darkroom.core import array_files, atomic, shortage
from darkroom.core.errors import WorkspaceError
from darkroom.data import file_sources
from darkroom.models import tensor_files


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "x.npy"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        OSError("40000 requested and 1024 written"),  # NumPy
        sqlite3.OperationalError("database or disk is full"),
        RuntimeError('Error while serializing: IoError(Os { code: 28, message: "No space left on device" })'),  # safetensors
    ],
    ids=str,
)
def test_a_full_disk_is_named(error):
    """The message has the free space and the remedy frees some; exit code 75."""
    explained = shortage.explain(error)
    assert explained.code == 75
    assert "disk is full" in explained.problem
    assert "MB are free" in explained.problem
    assert "darkroom tidy" in explained.remedy


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError("40000 requested and 1024 written"),  # NumPy's has no number
        sqlite3.OperationalError("database or disk is full"),
        SafetensorError('Error while serializing: IoError(Os { code: 28, message: "No space left on device" })'),
    ],
    ids=["system", "NumPy", "SQLite", "safetensors"],
)
def test_the_disk_that_is_full_is_that_of_the_output(tmp_path, monkeypatch, error):
    """A write that does not say which file it was of is one of the output, which may be on another disk than the project."""
    place = tmp_path / "elsewhere"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(type(error)) as caught, atomic.new_file(place / "model.bin"), atomic.new_folder(place / "inner"):
        raise error
    assert f"are free in {place}" in shortage.explain(caught.value).problem


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
@pytest.mark.parametrize("kind", ["file", "folder", "folder in a folder"])
def test_an_output_that_does_not_fit_says_what_it_needs(tmp_path, kind):
    """Where the size of an output is not known before, the bytes that were written are the least that it needs."""

    def write(folder: Path) -> None:
        (folder / "a.bin").write_bytes(bytes(3_000_000))
        with Path("/dev/full").open("wb") as full:
            full.write(b"x")

    def fill() -> None:
        if kind == "file":
            with atomic.new_file(tmp_path / "out") as working:
                write(working.parent)
        elif kind == "folder":
            with atomic.new_folder(tmp_path / "out") as working:
                write(working)
        else:  # the inner one is named
            with atomic.new_folder(tmp_path / "outer"), atomic.new_folder(tmp_path / "out") as working:
                write(working)

    with pytest.raises(OSError, match="No space") as caught:
        fill()
    problem = shortage.explain(caught.value).problem
    assert re.match(rf"the disk is full: {tmp_path / 'out'} needs more than 3\.0 MB, and [0-9,.]+ MB are free in", problem), problem


CONTENT = np.zeros((3, 1_000_000), np.uint8)
WRITERS = {
    "array": lambda path: array_files.save(path, CONTENT),
    "tensors": lambda path: tensor_files.save(path, {"weight": torch.from_numpy(CONTENT)}),
    "copy": lambda path: shortage.copy_file(path.with_name("source"), path),
}


def write_into_folder(write, folder: Path) -> None:
    with atomic.new_folder(folder) as new:
        (new / "source").write_bytes(CONTENT.tobytes())
        write(new / "out.npy")


@pytest.mark.parametrize("kind", WRITERS)
def test_what_is_known_not_to_fit_is_not_begun(tmp_path, monkeypatch, kind):
    """An output of a known size is refused with what it needs and what is free, exit code 75, before a byte of it is written."""
    (tmp_path / "source").write_bytes(CONTENT.tobytes())
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1_000_000))
        with pytest.raises(WorkspaceError, match=r"needs 3\.0 MB, and 1\.0 MB are free") as caught:
            WRITERS[kind](tmp_path / "out.npy")
        assert not (tmp_path / "out.npy").exists()
        with pytest.raises(WorkspaceError, match=rf"full: {tmp_path / 'outer/out.npy'} needs"):  # not the scratch folder's name
            write_into_folder(WRITERS[kind], tmp_path / "outer")
    assert caught.value.code == 75
    WRITERS[kind](tmp_path / "out.npy")
    assert (tmp_path / "out.npy").stat().st_size >= CONTENT.nbytes


def test_an_archive_that_would_fill_the_disk_is_no_damaged_archive(tmp_path, monkeypatch):
    """Unpacked beyond what is free, it is a full disk, exit code 75; the archive and its limits are not to blame."""
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=2_000_000))
    with pytest.raises(WorkspaceError, match=r"needs more than 2\.1 MB, and 2\.0 MB are free") as caught:
        file_sources.copy_limited(io.BytesIO(CONTENT.tobytes()), tmp_path / "archive.tar", tmp_path / "a.tar.gz")
    assert caught.value.code == 75


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        MemoryError("Unable to allocate 12. GiB for an array"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4096 bytes"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("std::bad_alloc"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        BrokenProcessPool("A process in the process pool was terminated abruptly"),
    ],
    ids=str,
)
def test_too_little_memory_is_named(error):
    """The remedy says how to need less or to have more; exit code 75."""
    try:
        raise KeyError("what a library makes of it") from error
    except KeyError as caught:
        explained = shortage.explain(caught)
    assert explained.code == 75
    assert "memory" in explained.problem
    assert "ulimit" in explained.remedy


@pytest.mark.parametrize("error", [ValueError("a number"), OSError(errno.EACCES, "Permission denied"), WorkspaceError("x", "y")])
def test_other_errors_are_left_alone(error):
    """Neither a mistake of the program nor an error that has a sentence is taken for a shortage."""
    assert shortage.explain(error) is None


def test_an_array_has_its_space_before_it_is_written(tmp_path, monkeypatch):
    """A map to write to has its blocks on disk, and one that does not fit names what it needs and what is free."""
    array = array_files.create(tmp_path / "a.npy", np.uint8, (3, 1_000_000))
    assert (array.shape, array.dtype) == ((3, 1_000_000), np.uint8)
    assert 512 * (tmp_path / "a.npy").stat().st_blocks >= 3_000_000

    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", refuse)
    with pytest.raises(WorkspaceError, match=r"needs 3\.0 MB, and [0-9,.]+ MB are free") as caught:
        array_files.create(tmp_path / "b.npy", np.uint8, (3, 1_000_000))
    assert caught.value.code == 75


def test_where_blocks_cannot_be_reserved_the_free_space_is_compared(tmp_path, monkeypatch):
    """Without posix_fallocate, as on macOS, a file that the disk has no room for is refused before it is written, too."""
    monkeypatch.delattr("os.posix_fallocate", raising=False)
    array_files.create(tmp_path / "a.npy", np.uint8, (3, 1_000_000))
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1_000_000))
    with pytest.raises(WorkspaceError, match=r"needs 3\.0 MB") as caught:
        array_files.create(tmp_path / "b.npy", np.uint8, (3, 1_000_000))
    assert caught.value.code == 75


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a limit of address space")
def test_a_command_under_a_limit_of_memory_ends_with_a_sentence(tmp_path):
    """Too low a `ulimit -v` for the libraries themselves is no traceback."""
    command = f"ulimit -v 1500000; exec {sys.executable} -m darkroom predict {Path(__file__)} --model {tmp_path}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert done.returncode in (2, 75), done.stderr
    assert "remedy:" in done.stderr
    assert "Traceback" not in done.stderr
