"""Locks between processes: of one workspace, or of the processes that share its MLflow."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from darkroom.core.errors import WorkspaceError

WORKSPACE = Path(".dvc/tmp/darkroom.lock")


class BusyError(WorkspaceError):
    """Another run holds the workspace, and this one does not wait."""


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


@contextmanager
def workspace(what: str, say: Callable[[str], object], wait: bool = True) -> Iterator[None]:
    """Hold a workspace for the length of a block: runs of the graph take turns.

    `what` is what others are told who wait, `say` tells what this one waits for. Raises BusyError where it does not `wait`.
    """
    WORKSPACE.parent.mkdir(parents=True, exist_ok=True)
    about = WORKSPACE.with_suffix(".json")
    lock = FileLock(WORKSPACE)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if not wait:
            raise BusyError(f"the workspace is taken by {_holder(about)}", "wait for it, or leave out what says not to") from None
        say(f"waits for {_holder(about)}")
        lock.acquire(poll_interval=0.2)
        say("the workspace is free")
    try:
        about.write_text(json.dumps({"pid": os.getpid(), "what": what, "since": time.strftime("%F %T")}), encoding="utf-8")
        yield
    finally:
        about.unlink(missing_ok=True)
        lock.release()


def _holder(about: Path) -> str:
    try:
        known = json.loads(about.read_text(encoding="utf-8"))
        return f"{known['what']} (process {known['pid']}, since {known['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another run"
