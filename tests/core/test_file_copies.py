"""Copies of files, which share their blocks where the file system can."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess

import pytest

from darkroom.core import platforms

CONTENT = os.urandom(3_000_001)


@pytest.mark.parametrize("failure", [None, errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_copy_has_the_bytes(failure, tmp_path, monkeypatch):
    """A file is copied whole, in several pieces, and where the kernel cannot; a longer file of before is replaced."""
    (tmp_path / "a").write_bytes(CONTENT)
    (tmp_path / "b").write_bytes(2 * CONTENT)
    monkeypatch.setattr(platforms, "COPIED_AT_ONCE", 1_000_000)

    def fail(*_: object) -> int:
        raise OSError(failure, "refused")

    if failure:
        monkeypatch.setattr(os, "copy_file_range", fail, raising=False)
    platforms.copy_file(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == CONTENT


def test_a_full_disk_is_no_reason_to_copy_in_another_way(tmp_path, monkeypatch):
    """What the kernel refuses for another reason than that it cannot copy is raised."""

    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    (tmp_path / "a").write_bytes(CONTENT)
    monkeypatch.setattr(os, "copy_file_range", fail, raising=False)
    with pytest.raises(OSError, match="full"):
        platforms.copy_file(tmp_path / "a", tmp_path / "b")


def test_a_copy_shares_its_blocks_where_the_disk_can(tmp_path):
    """On XFS a copy of 60 MB takes less than 1 MB of the disk, and a change of it leaves the original as it is."""
    if not shutil.which("mkfs.xfs") or os.geteuid():
        pytest.skip("it takes root and xfsprogs to make a file system")
    with (tmp_path / "disk.img").open("wb") as file:
        file.truncate(400_000_000)
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", tmp_path / "disk.img"], check=True)
    if subprocess.run(["mount", "-o", "loop", tmp_path / "disk.img", disk], capture_output=True).returncode:
        pytest.skip("XFS cannot be mounted here")
    try:
        content = 20 * CONTENT
        (disk / "a").write_bytes(content)
        os.sync()
        free = shutil.disk_usage(disk).free
        platforms.copy_file(disk / "a", disk / "b")
        os.sync()
        assert free - shutil.disk_usage(disk).free < 1_000_000
        with (disk / "b").open("r+b") as file:
            file.write(b"changed")
        assert (disk / "a").read_bytes() == content
    finally:
        subprocess.run(["umount", disk], check=True)
