"""The state of the git repository that holds the workspace."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass


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


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True, timeout=30).stdout.strip()
