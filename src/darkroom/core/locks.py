"""Locks between processes: of a workspace, and of files that processes share."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from darkroom.core import strict_json
from darkroom.core.errors import WorkspaceError

WORKSPACE = Path(".dvc/tmp/darkroom.lock")
NOTICE = 5.0  # seconds of waiting after which a command says what it waits for


class BusyError(WorkspaceError):
    """Another run holds the workspace, and this one does not wait."""


@contextmanager
def hold(path: Path, wait: float = -1) -> Iterator[bool]:
    """Hold a lock file during a block; yield False where another process holds it for `wait` seconds (-1: without limit).

    Whoever waits for longer than NOTICE seconds says so on stderr.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        try:
            lock.acquire(timeout=NOTICE if wait < 0 else min(wait, NOTICE))
        except Timeout:
            if 0 <= wait <= NOTICE:
                raise
            print(f"waiting for another process, which holds {path}", file=sys.stderr, flush=True)
            lock.acquire(timeout=wait if wait < 0 else wait - NOTICE)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def is_taken(path: Path) -> bool:
    """Tell whether another process holds the lock now."""
    with hold(path, wait=0) as acquired:
        return not acquired


@contextmanager
def workspace(description: str, report: Callable[[str], object], wait: bool = True) -> Iterator[None]:
    """Hold the workspace during a block, so that one run of the graph at a time uses it.

    Runs that wait report `description`, and this run reports through `report` what it waits for. Raises
    BusyError where another run holds the workspace and `wait` is false.
    """
    WORKSPACE.parent.mkdir(parents=True, exist_ok=True)
    holder = WORKSPACE.with_suffix(".json")
    lock = FileLock(WORKSPACE)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if not wait:
            raise BusyError(f"the workspace is taken by {_describe(holder)}", "wait for it, or omit `--no-wait`") from None
        report(f"waiting for {_describe(holder)}")
        lock.acquire(poll_interval=0.2)
        report("the workspace is free")
    try:
        content = {"pid": os.getpid(), "description": description, "since": time.strftime("%F %T")}
        holder.write_text(json.dumps(content), encoding="utf-8")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _describe(holder: Path) -> str:
    try:
        content = strict_json.loads(holder.read_text(encoding="utf-8"))
        return f"{content['description']} (process {content['pid']}, since {content['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another run"
