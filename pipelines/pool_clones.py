"""A worker's clones of projects: `WORKER_FOLDER/NAME-DIGEST/clone-N`, each used by one stage at a time, with one DVC cache.

They stay, so that a stage finds data, decoded images and what a killed stage resumes from. Deleting the folder loses nothing.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from darkroom.core import locks, strict_json
from darkroom.core.errors import WorkspaceError
from pipelines import worktree

FOLDER = "DARKROOM_WORKER_FOLDER"
JOURNAL = Path(".darkroom/journal")  # what MLflow does not have yet (`darkroom.tracking.records`)
TRANSIENT = ("Could not resolve", "Connection", "timed out", "unable to access", "Could not read from remote", "early EOF")


@contextmanager
def take(repository: str, ref: str, commit: str, project: str) -> Iterator[Path]:
    """Hold a clone of the repository with a commit, which `ref` of it names; yield the project's folder in it."""
    digest = hashlib.sha256(repository.encode()).hexdigest()[:8]
    name = re.sub(r"[^\w.-]+", "-", Path(repository).name.removesuffix(".git"))
    home = Path(os.environ[FOLDER]) / f"{name}-{digest}"
    for number in count(1):
        with locks.hold(home / f"clone-{number}.lock", wait=0) as is_free:
            if is_free:
                clone = home / f"clone-{number}"
                _check_out(clone, repository, ref, commit)
                folder = clone / project
                _prepare(folder, home / "cache")
                yield folder
                return


def _check_out(clone: Path, repository: str, ref: str, commit: str) -> None:
    """Bring a commit into a clone; what neither git nor .gitignore knows is removed."""
    if not (clone / ".git").is_dir():
        shutil.rmtree(clone, ignore_errors=True)
        worktree.git("init", "--quiet", str(clone))
    if not worktree.git("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}", folder=clone, check=False):
        try:
            fetch = ("fetch", "--quiet", "--depth", "1", "--", repository, ref)
            worktree.git(*fetch, folder=clone, environment={"GIT_TERMINAL_PROMPT": "0"})  # nobody is asked for a password
        except WorkspaceError as error:
            raise WorkspaceError(
                f"this worker cannot fetch {ref} of {repository}: {error.problem}",
                "give the worker's user access to the repository: `git ls-remote ADDRESS` must work there",
                any(words in error.problem for words in TRANSIENT),
            ) from error
    worktree.git("checkout", "--quiet", "--force", "--detach", commit, folder=clone)
    worktree.git("clean", "--quiet", "-ffd", "--exclude=.darkroom", folder=clone)


def _prepare(folder: Path, cache: Path) -> None:
    """Let DVC use the cache that the clones share, and remove what a killed stage left: its locks of paths, and its record."""
    dvc = folder / ".dvc"
    if not dvc.is_dir():
        raise WorkspaceError(f"the commit has no .dvc in {folder.name}", "commit it: `git add .dvc dvc.yaml params.yaml`")
    (dvc / "config.local").write_text(f"[cache]\n    dir = {cache.resolve()}\n", encoding="utf-8")
    (dvc / "tmp" / "rwlock").unlink(missing_ok=True)
    journal = folder / JOURNAL
    if not journal.is_dir() or locks.is_taken(journal / "uploader.lock"):  # an uploader sees itself that a stage was killed
        return
    for record in journal.glob("*/record.jsonl"):
        if not _is_ended(record):  # the stage runs again, on whatever machine, and has the same run in MLflow
            shutil.rmtree(record.parent)


def _is_ended(record: Path) -> bool:
    """Tell whether the last line of a record says how its run ended."""
    with suppress(OSError, ValueError, IndexError, KeyError):
        return bool(strict_json.loads(record.read_bytes().splitlines()[-1])["kind"] == "end")
    return False


def clean(folder: Path, paths: list[str]) -> None:
    """Remove what git does not track in folders of a clone: outputs of an earlier commit that a stage would read."""
    if paths:
        worktree.git("clean", "--quiet", "-ffdx", "--", *paths, folder=folder)


def are_records_sent(folder: Path) -> bool:
    """Tell whether MLflow has all runs of a clone to their end."""
    return not any((folder / JOURNAL).glob("*/record.jsonl"))
