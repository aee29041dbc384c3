"""The state of the git repository that holds the workspace."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from darkroom.core.errors import WorkspaceError

MARKER = 40  # characters of a marker of conflicts: no line of a project's files begins so
_CONFLICT = re.compile(f"^<{{{MARKER}}} ", re.MULTILINE)
_BOTH_ADDED = re.compile(
    f"^<{{{MARKER}}} [^\n]*\n(?P<current>(?:(?![<|]{{{MARKER}}} ).*\n)*)"
    f"[|]{{{MARKER}}} [^\n]*\n={{{MARKER}}}\n(?P<new>(?:(?!>{{{MARKER}}} ).*\n)*)>{{{MARKER}}} [^\n]*\n",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Commit:
    """The commit that is checked out, and whether files differ from it."""

    sha: str
    is_dirty: bool


def commit(paths: Sequence[str] = ()) -> Commit | None:
    """Return the commit and whether these paths (default: all) have changes; None outside a repository."""
    try:
        return Commit(_git("rev-parse", "HEAD"), bool(_git("status", "--porcelain", "--untracked-files=no", "--", *paths)))
    except (OSError, subprocess.SubprocessError):
        return None


def tracked(paths: Sequence[str]) -> list[str]:
    """Return the files that git tracks at or below these paths; none outside a repository."""
    if not paths:
        return []
    try:
        return [path for path in _git("--literal-pathspecs", "ls-files", "-z", "--", *paths).split("\0") if path]
    except (OSError, subprocess.SubprocessError):
        return []


def prefix() -> str:
    """Return this folder's path in its repository; empty at the top, and outside a repository."""
    try:
        return _git("rev-parse", "--show-prefix")
    except (OSError, subprocess.SubprocessError):
        return ""


def contents(path: str) -> list[str]:
    """Return what a file has been in all commits that changed it, newest first; nothing outside a repository."""
    try:
        commits = _git("log", "--all", "--diff-filter=AM", "--format=%H", "--", path).split()
        return [_git("show", f"{commit}:./{path}") for commit in commits]
    except (OSError, subprocess.SubprocessError):
        return []


def versions(path: str) -> list[bytes]:
    """Return what a file has been in the commits of this branch that changed it, newest first; nothing outside a repository."""
    try:
        commits = _git("log", "--diff-filter=AM", "--format=%H", "--", path).split()
        return [_bytes("show", f"{commit}:./{path}") for commit in commits]
    except (OSError, subprocess.SubprocessError):
        return []


def experiment_file(name: str, path: str, since: float) -> str:
    """Return a file of the DVC experiment of this name that was committed since then; empty where there is none."""
    try:
        for line in _git("for-each-ref", "--format=%(committerdate:unix) %(refname)", "refs/exps").splitlines():
            date, _, ref = line.partition(" ")
            if ref.rpartition("/")[2] == name and int(date) >= int(since):
                return _git("show", f"{ref}:./{path}")
    except (OSError, subprocess.SubprocessError):
        pass
    return ""


def merge(current: str, base: str, new: str) -> str | None:
    """Return a text with its changes since `base` and those of `new`; None where they meet, or where git is not installed.

    Lines that both have added in one place, as a stage at the end of a graph, are both kept.
    """
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, name) for name in ("current", "base", "new")]
        for path, text in zip(paths, (current, base, new), strict=True):
            path.write_text(text, encoding="utf-8")
        command = ["git", "merge-file", "--stdout", "--diff3", f"--marker-size={MARKER}", *map(str, paths)]
        try:
            done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=30)
        except (OSError, subprocess.SubprocessError):
            return None
    if done.returncode > 127:  # of an error; else the number of conflicts
        return None
    merged = _BOTH_ADDED.sub(_both, done.stdout)
    return None if _CONFLICT.search(merged) else merged


def _both(conflict: re.Match[str]) -> str:
    """Return the lines that both have added, the deeper ones first, which belong to what stands above; else the conflict."""
    first, second = sorted((conflict["new"], conflict["current"]), key=lambda text: -_indents(text)[0])
    return first + second if _indents(second)[0] <= min(_indents(first)) else conflict[0]


def _indents(text: str) -> list[int]:
    return [len(line) - len(line.lstrip()) for line in text.splitlines() if line.strip()] or [0]


def init() -> bool:
    """Make this folder a git repository, unless it is in one; return whether it was made. Raises WorkspaceError without git."""
    try:
        if _is_inside():
            return False
        _git("init", "--quiet")
    except FileNotFoundError as error:
        raise WorkspaceError(
            "git is not installed, which DVC needs", "install it: apt-get install git, brew install git"
        ) from error
    return True


def add(path: str) -> None:
    """Let git know the files at a path, for the next commit; what it ignores is left out."""
    with suppress(OSError, subprocess.SubprocessError):
        _git("add", "--all", "--", path)


def _is_inside() -> bool:
    """Tell whether this folder is in a git repository."""
    try:
        return _git("rev-parse", "--is-inside-work-tree") == "true"
    except subprocess.SubprocessError:
        return False


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True, timeout=30).stdout.strip()


def _bytes(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], capture_output=True, check=True, timeout=30).stdout
