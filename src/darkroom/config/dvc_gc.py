"""The removal of results from DVC's cache that no commit, no experiment, no workspace and no worktree of flows needs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from darkroom.core import git
from darkroom.core.errors import WorkspaceError

WORKTREES = Path(".darkroom/worktrees")
NEEDED = ("--workspace", "--all-commits", "--all-experiments")  # `dvc gc -w` would remove the outputs of every earlier commit
COMMAND = f"dvc gc {' '.join(NEEDED)}"


def worktrees() -> list[Path]:
    """Return the project's folder in each worktree of its flows that has run something."""
    return sorted(path for path in (tree / git.prefix() for tree in WORKTREES.glob("*")) if (path / "dvc.lock").exists())


def collect(report: Callable[[str], object], dry_run: bool) -> None:
    """Run `dvc gc`, unless the cache lies outside the project, where other projects may share it.

    Raises WorkspaceError where DVC refuses.
    """
    cache = Path(_dvc("cache", "dir"))
    if not cache.is_relative_to(Path.cwd().resolve()):
        report(f"DVC's cache {cache} is not in this project: it stays as it is, since others may share it")
        return
    others = [str(path) for path in worktrees()]
    output = _dvc("gc", "--force", *NEEDED, *(["--projects", *others] if others else []), *(["--dry"] if dry_run else []))
    for line in output.splitlines():
        if line.startswith("Removed") or "would be removed" in line:
            report(f"DVC's cache: {line}")


def _dvc(*arguments: str) -> str:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    result = subprocess.run([sys.executable, "-m", "dvc", *arguments], env=environment, capture_output=True, text=True)
    if result.returncode:
        problem = next(iter(result.stderr.strip().splitlines()[-1:]), f"exit code {result.returncode}")
        raise WorkspaceError(f"dvc {arguments[0]}: {problem}", "run `darkroom tidy` again when DVC has ended", retryable=True)
    return result.stdout.strip()
