"""Locks between processes of one workspace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def hold(path: Path, wait: float = -1) -> Iterator[bool]:
    """Hold a lock file for the length of a block; yield False where it could not be had within `wait` seconds (-1: for ever)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=wait)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def is_taken(path: Path) -> bool:
    """Tell whether another process holds the lock now."""
    with hold(path, wait=0) as free:
        return not free
