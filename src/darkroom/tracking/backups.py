"""Backups of the project's own MLflow database, and what is said and done where it is damaged or missing.

The uploader makes one a day, after its work. A backup is checked before it takes the place of an older one, so that
damage that nobody has seen does not spread to all of them.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from darkroom.core import atomic
from darkroom.core.counts import counted
from darkroom.core.errors import WorkspaceError
from darkroom.tracking.home import HOME, ROOT, is_own

FOLDER = HOME / ".darkroom/backups"
KEPT = 3
DATE = "%Y-%m-%d-%H%M%S"  # in the names of copies
INTERVAL = 86_400.0  # seconds between two backups, at least
RESTORE = "`darkroom sync --restore`"
NEWER = "newer-"  # what the names of backups begin with that this MLflow cannot read
SUFFIXES = ("", "-journal", "-wal", "-shm")  # of a database's files


def backups() -> list[Path]:
    """Return the backups, newest first."""
    return sorted(FOLDER.glob("mlflow-*.db"), reverse=True)


def newer() -> list[Path]:
    """Return the backups that a restoration has passed over, since a newer MLflow had made them, newest first."""
    return sorted(FOLDER.glob(f"{NEWER}*.db"), reverse=True)


def former(before: float) -> list[Path]:
    """Return the files of databases that were set aside, or copied for an upgrade, before a time in seconds since 1970.

    Their names say when; a damaged database may not have been written for long.
    """
    files = []
    kinds = (
        ("damaged-", FOLDER.glob("damaged-*")),
        (f"{NEWER}mlflow-", FOLDER.glob(f"{NEWER}*")),
        ("mlflow.db.", HOME.glob("mlflow.db.*")),
    )
    for prefix, paths in kinds:
        for path in sorted(paths):
            with suppress(ValueError):  # a person's own
                if time.mktime(time.strptime(path.name.removeprefix(prefix).partition(".db")[0], DATE)) < before:
                    files.append(path)
    return files


def take(file: Path, interval: float = INTERVAL) -> Path | None:
    """Copy a database, also one that is in use, unless the newest backup is younger than `interval` seconds.

    Raises WorkspaceError where the database is damaged; its backups stay as they are.
    """
    existing = backups()
    if not file.exists() or (existing and time.time() - existing[0].stat().st_mtime < interval):
        return None
    backup = FOLDER / f"mlflow-{time.strftime(DATE)}.db"
    FOLDER.mkdir(parents=True, exist_ok=True)
    with atomic.new_file(backup) as working:
        working.touch(0o600)
        copy(file, working)
        if problem := damage(working):
            raise damaged(file, problem)
    for old in backups()[KEPT:]:
        old.unlink()
    return backup


def copy(file: Path, target: Path) -> None:
    """Copy a database as it is at one moment, in one transaction, whoever reads or writes either of them.

    Raises WorkspaceError where it is damaged.
    """
    try:
        with closing(sqlite3.connect(file, 60.0)) as source, closing(sqlite3.connect(target, 60.0)) as other:
            source.backup(other)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):  # locked, or the disk is full
            raise
        raise damaged(file, str(error)) from error


def damage(file: Path) -> str:
    """Return what is wrong with a database; empty where it is whole, or cannot be opened now."""
    try:
        with closing(sqlite3.connect(file, 60.0)) as connection:
            ((outcome,),) = connection.execute("PRAGMA quick_check(1)")
            return "" if outcome == "ok" else str(outcome).replace("\n", " ")
    except sqlite3.OperationalError:  # locked, or without permission
        return ""
    except sqlite3.DatabaseError as error:
        return str(error)


def is_empty(file: Path) -> bool:
    """Return whether a database is missing or has no table; a damaged one has some."""
    if not file.exists():
        return True
    try:
        with closing(sqlite3.connect(file, 60.0)) as connection:
            return bool(connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,))
    except sqlite3.Error:
        return False


def damaged(file: Path, problem: str) -> WorkspaceError:
    """Return the error about a damaged database, whose remedy is its backup or what mlruns/ has of it."""
    return WorkspaceError(f"{file} is damaged or not a database of MLflow ({problem})", remedy())


def remedy() -> str:
    """Return what brings back as much of the database as there is."""
    existing = backups()
    if existing:
        return f"{RESTORE} puts the backup {existing[0]} in its place, and keeps the file that is there now"
    return f"there is no backup: {RESTORE} keeps that file, and makes a new database with the versions whose files are in mlruns/"


def check_not_lost(file: Path, is_newer: Callable[[Path], bool]) -> None:
    """Raise WorkspaceError where a database without tables would be made anew though there is a backup of it, or mlruns/ has
    versions: a new one would look as if nothing had been lost. `is_newer` tells a database of a newer MLflow."""
    if not is_own(file):
        return
    lost = "empty" if file.exists() else "missing"
    whole = [backup for backup in backups() if not damage(backup)]
    if whole and all(map(is_newer, whole)):
        raise WorkspaceError(
            f"{file} is {lost}, and its backups in {FOLDER} were made by a newer MLflow",
            f"install that MLflow, then {RESTORE}; with this one {RESTORE} keeps them, and makes a database with the versions "
            "whose files are in mlruns/",
        )
    if existing := [backup for backup in whole if not is_newer(backup)] or backups():
        raise WorkspaceError(
            f"{file} is {lost}, and has the backup {existing[0]}",
            f"{RESTORE} puts it in its place; to begin with a new database, move {FOLDER} away",
        )
    if packaged := len(packages()):
        raise WorkspaceError(
            f"{file} is {lost}, and {HOME / ROOT} has the files of {counted(packaged, 'version')}",
            f"{RESTORE} makes a database with them; to begin with a new one, move {HOME / ROOT} away",
        )


def packages() -> list[Path]:
    """Return the folders in mlruns/ with the files of registered models, in no order."""
    return [file.parent for file in (HOME / ROOT).glob("*/models/*/artifacts/MLmodel")]


def set_aside(file: Path) -> Path | None:
    """Move a database and its journal to the backups; return where it is, or None where there was none."""
    if not file.exists():
        return None
    target = FOLDER / f"damaged-{time.strftime(DATE)}.db"
    FOLDER.mkdir(parents=True, exist_ok=True)
    for suffix in reversed(SUFFIXES):  # the journal first: it would be applied to another database of this name
        part = file.with_name(file.name + suffix)
        if part.exists():
            part.rename(target.with_name(target.name + suffix))
    return target


def restore(file: Path, is_newer: Callable[[Path], bool]) -> Path | None:
    """Put the newest whole backup in the place of a database; return it, or None where there is none.

    Backups that `is_newer` tells to be of a newer MLflow are passed over, and kept under another name: those to come would
    take their place.
    """
    for backup in backups():
        if damage(backup):
            continue
        if is_newer(backup):
            backup.rename(FOLDER / f"{NEWER}{backup.name}")
        else:
            with atomic.new_file(file) as working:
                copy(backup, working)
            return backup
    return None
