"""Log files that processes append to for years, kept at a limited size."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

LIMIT = 10 * 2**20  # bytes of a log; as many of the part before are kept beside it
OLD = ".old"


def trim(path: Path, limit: int | None = None) -> None:
    """Where a log is longer than the limit, by default LIMIT, move its content to a file beside it, in place of what is there.

    Processes that have it open for appending write on into the same, empty file; a line that is written meanwhile may be lost.
    """
    with suppress(FileNotFoundError):
        if path.stat().st_size > (LIMIT if limit is None else limit):
            shutil.copyfile(path, path.with_name(path.name + OLD))
            os.truncate(path, 0)
