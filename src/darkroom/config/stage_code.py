"""The code of each stage in an installed package, by digests in the project's `code.yaml`, on which DVC lets the stages depend.

The graph of the repository names the source files of each stage. A project elsewhere has no source files: its graph names a
digest of them, which `darkroom update` writes. So an upgrade reruns the stages whose code it changed, and no other one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import yaml

import darkroom
from darkroom.config import dvc_graph, package_files
from darkroom.core.errors import WorkspaceError

FILE, GRAPH = Path(dvc_graph.CODE), Path("dvc.yaml")
STAGES, FILES, VERSION = "stages", "files", "darkroom"  # keys of the file
PREFIX = "src/darkroom/"  # of a stage's code in the graph of the repository
SUFFIXES = (".py", ".j2", ".csv")
UPDATE = "`darkroom update` takes it over, and says which stages run again"


def is_used() -> bool:
    """Tell whether this folder is a project whose stages depend on digests of their code, not on source files."""
    return FILE.exists() or (GRAPH.exists() and f"- {FILE}:" in GRAPH.read_text(encoding="utf-8", errors="replace"))


def files(stage: str) -> list[Path]:
    """Return the source files of a stage in the package that runs."""
    paths = [package_files.PACKAGE / path for path in _paths()[stage]]
    return [
        file
        for path in paths
        for file in ([path] if path.is_file() else sorted(item for item in path.rglob("*") if item.suffix in SUFFIXES))
    ]


def digests() -> dict[str, str]:
    """Return a digest of the source files of each stage, by their names and contents."""
    return {stage: _digest(stage) for stage in _paths()}


def check(stages: Iterable[str] = ()) -> None:
    """Raise WorkspaceError where stages (default: all) have another code in this package than in the project's file."""
    if not is_used():
        return
    content = read()
    recorded = content.get(STAGES) or {}
    changed = [stage for stage in stages or _paths() if recorded.get(stage) != _digest(stage)]
    if changed:
        before = str(content.get(VERSION, "unknown"))
        names = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more stages" if len(changed) > 3 else "")
        raise WorkspaceError(
            f"the code of {names} in the installed Darkroom {darkroom.__version__} is not the one in {FILE}, of "
            f"{'another build of it' if before == darkroom.__version__ else f'Darkroom {before}'}",
            UPDATE,
        )


def read() -> dict[str, Any]:
    """Return what the project's file holds; raises WorkspaceError where it is missing or damaged."""
    if not FILE.exists():
        raise WorkspaceError(f"there is no {FILE}, which {GRAPH} names", f"restore it: `git checkout {FILE}`, or `darkroom update`")
    try:
        content = dvc_graph.load_yaml(FILE.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise WorkspaceError(f"{FILE} is not valid YAML: {error}", "delete it, then `darkroom update` writes it") from error
    if not isinstance(content, dict) or not all(isinstance(content.get(key) or {}, dict) for key in (STAGES, FILES)):
        raise WorkspaceError(f"{FILE} holds no digests of stages", "delete it, then `darkroom update` writes it")
    return content


@cache
def _paths() -> dict[str, list[str]]:
    """Return the paths of each stage's code in the package, which the graph of the repository names."""
    graph = dvc_graph.load_yaml((package_files.root() / GRAPH).read_text(encoding="utf-8"))
    return {
        name: [dep.removeprefix(PREFIX) for dep in stage["deps"] if dep.startswith(PREFIX)]
        for name, stage in graph["stages"].items()
    }


def _digest(stage: str) -> str:
    sha = hashlib.sha256()
    for file in files(stage):
        sha.update(f"{file.relative_to(package_files.PACKAGE).as_posix()} {_content_digest(file)}\n".encode())
    return sha.hexdigest()[:32]


@cache
def _content_digest(file: Path) -> str:
    """Return the digest of a file, which several stages may have."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
