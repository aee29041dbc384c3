"""What operating systems have under other names, or not at all. No other module asks for what only one of them has.

Darkroom is for Linux and macOS, and for Windows by WSL, which is Linux. Importing a module needs none of this.
"""

from __future__ import annotations

import errno
import os
import platform
import shutil
from pathlib import Path

from darkroom.core.lazy import lazy_imports

with lazy_imports():
    import psutil

CONTAINER = Path("/sys/fs/cgroup")  # limits of a container, as Linux shows them within
COPIED_AT_ONCE = 2**30  # bytes
NO_COPY_IN_THE_KERNEL = (errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
LOOPBACK = "lo0" if platform.system() == "Darwin" else "lo"  # the network interface of a machine to itself


def usable_cores() -> int:
    """Return the number of cores that this process may run on; macOS has no limit of them for a process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load_average() -> float:
    """Return how many processes wanted to run in the last five minutes, on average; 0 where nothing counts them."""
    return os.getloadavg()[1] if hasattr(os, "getloadavg") else 0.0


def available_memory() -> int:
    """Return the bytes of memory that programs can still take: of the machine, or of the container where it has less."""
    free = psutil.virtual_memory().available
    try:
        limit = int((CONTAINER / "memory.max").read_text())  # "max" where there is no limit
        statistics = dict(line.split() for line in (CONTAINER / "memory.stat").read_text().splitlines())
        used = int((CONTAINER / "memory.current").read_text()) - int(statistics["inactive_file"])
    except (OSError, ValueError, KeyError):
        return free
    return max(0, min(free, limit - used))


def reserve_space(path: Path) -> None:
    """Give a file the blocks of its whole size on disk. Raises OSError (ENOSPC) where the disk lacks them.

    macOS cannot reserve blocks: there the free space is compared with what the file still needs.
    """
    state = path.stat()
    with path.open("r+b") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, state.st_size)
        elif shutil.disk_usage(path.parent).free < state.st_size - 512 * getattr(state, "st_blocks", 0):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def copy_file(source: Path, target: Path) -> None:
    """Copy the content of a file. On a file system that can (XFS, Btrfs) the copy shares its blocks until one of both changes."""
    if hasattr(os, "copy_file_range"):
        try:
            with source.open("rb") as original, target.open("wb") as copy:
                while os.copy_file_range(original.fileno(), copy.fileno(), COPIED_AT_ONCE):
                    pass
            return
        except OSError as error:
            if error.errno not in NO_COPY_IN_THE_KERNEL:
                raise
    shutil.copyfile(source, target)


def has_nvidia_device() -> bool:
    """Tell whether Linux shows a GPU of NVIDIA's; asking torch takes seconds."""
    return Path("/dev/nvidia0").exists()


def processor() -> str:
    """Return the name of the processor, where Linux has it in a file; elsewhere what Python knows of it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
