"""A full disk and too little memory are one sentence, whatever library reports them."""

from __future__ import annotations

import errno
import sqlite3
import subprocess
import sys
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from darkroom.core import array_files, atomic, shortage
from darkroom.core.errors import WorkspaceError


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


def test_the_disk_that_is_full_is_that_of_the_output(tmp_path, monkeypatch):
    """A write that does not say which file it was of is one of the output, which may be on another disk than the project."""
    place = tmp_path / "elsewhere"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError, match="No space") as caught, atomic.new_file(place / "model.bin"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert str(place) in shortage.explain(caught.value).problem


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
