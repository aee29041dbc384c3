"""Notices that code, params or label fixes were edited while a stage ran, which DVC would take for what it ran on.

DVC reads params and hashes dependencies after a stage has run. Without this, the outputs of the old params would count as
those of the new ones, and `dvc repro` would run nothing. The stage `ingest` looks at its source itself.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from darkroom.config import dvc_graph, stage_code
from darkroom.core.errors import WorkspaceError

CODE = "src/"
TABLES = ".csv"  # data/label_fixes.csv, data/splits.csv
GRAPH, PARAMS = Path("dvc.yaml"), Path("params.yaml")


@contextmanager
def unchanged(stage: str) -> Iterator[None]:
    """Raise WorkspaceError where inputs of a stage that DVC runs were edited during the block, to be retried, and before it where
    the project's stage has another code.
    """
    stage_code.check([stage])
    if not os.environ.get("DVC_STAGE"):
        yield
        return
    before = observe(stage)
    yield
    after: dict[str, str] = {}
    with suppress(OSError, yaml.YAMLError, AttributeError):  # a file that is being written counts as changed
        after = observe(stage)
    changed = [name for name in before | after if before.get(name) != after.get(name)]
    if changed:
        names = ", ".join(changed[:3]) + (", …" if len(changed) > 3 else "")
        raise WorkspaceError(
            f"{names} changed while {stage} ran, so that its outputs are of what was there before",
            "`dvc repro` runs it again; where the edit was for a later run, take it back first, and what was trained is used",
            retryable=True,
        )


def observe(stage: str) -> dict[str, str]:
    """Return the params of a stage by their flat name, and the digests of its code and tables by path."""
    declared = _read(GRAPH)["stages"].get(stage, {})
    entries = declared.get("params", [])
    named = {PARAMS.name: [name for name in entries if isinstance(name, str)]}
    named |= {file: names for entry in entries if isinstance(entry, dict) for file, names in entry.items()}
    params = {f"{name} in {file}": value for file, names in named.items() for name, value in _params(Path(file), names)}
    paths = [Path(dep) for dep in declared.get("deps", []) if dep.startswith(CODE) or dep.endswith(TABLES)]
    files = [file for path in paths for file in ([path] if path.is_file() else sorted(path.rglob("*.py")))]
    files += stage_code.files(stage) if stage_code.is_used() else []
    return params | {str(file): hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest() for file in files}


def _params(file: Path, names: list[str]) -> Iterator[tuple[str, str]]:
    """Yield the params of a file that are named, or below a section that is."""
    sections = tuple(f"{name}." for name in names)
    for name, value in dvc_graph.flat_params({file.name: _read(file)}).items():
        if name in names or name.startswith(sections):
            yield name, value


def _read(path: Path) -> Any:
    return dvc_graph.load_yaml(path.read_text(encoding="utf-8"))
