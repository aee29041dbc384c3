"""Outputs that are there whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PARTIAL = ".partial"  # DVC ignores what is named so, and `darkroom tidy` removes what a killed stage left


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`; when the block ends well it takes the place of `path`, else it vanishes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    working = Path(tempfile.mkdtemp(prefix=f".{path.name}.{os.getpid()}.", suffix=PARTIAL, dir=path.parent))
    working.chmod(0o755)
    try:
        yield working
        if path.exists():
            shutil.rmtree(path)
        working.replace(path)
    finally:
        shutil.rmtree(working, ignore_errors=True)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield a path beside `path`; what the block writes there takes the place of `path` when it ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    working = path.with_name(f".{path.name}.{os.getpid()}.x{PARTIAL}")
    try:
        yield working
        working.replace(path)
    finally:
        working.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write JSON whose bytes depend on the content alone."""
    with new_file(path) as working:
        working.write_text(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
