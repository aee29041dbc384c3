"""Where the project's own MLflow database finds artifacts: paths relative to the project, so that it can be moved and copied.

MLflow stores an absolute path for each experiment, and below it one for each run, logged model and version. Relative ones it
reads from the working directory, which is the project's while MLflow is used.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

from darkroom.core.errors import WorkspaceError
from darkroom.tracking.home import HOME, ROOT, database, is_own

COLUMNS = (
    ("experiments", "artifact_location"), ("runs", "artifact_uri"), ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"), ("model_versions", "source"), ("trace_tags", "value"),
)  # fmt: skip
LOCK = HOME / ".darkroom/mlflow.lock"  # held by whoever creates or changes the database's schema or paths
WAIT = 60.0  # seconds for another process to finish writing to the database


def is_relative() -> bool:
    """Return whether the database has no absolute path, or is not the project's own."""
    file = database()
    if file is None or not file.exists() or not is_own(file):
        return True
    with suppress(sqlite3.Error), closing(sqlite3.connect(file, WAIT)) as connection:  # another error is MLflow's to report
        return not list(_roots(connection))
    return True


def make_relative() -> None:
    """Make the absolute paths in the project's own database relative.

    Artifacts that only an earlier place of the project has are copied from there. A new database becomes so in silence.
    Raises WorkspaceError where the database cannot be written, and for one of another project, which is read from there alone.
    """
    file = database()
    if file is None or not file.exists():
        return
    try:
        with closing(sqlite3.connect(file, WAIT)) as connection, connection:
            if not is_own(file):
                _check_is_shared(connection, file)
                return
            for prefix, root in _roots(connection):
                places = [place for table, column in COLUMNS for place in _replace(connection, table, column, prefix)]
                is_elsewhere = root.resolve() != (HOME / ROOT).resolve()
                copied = sum(_copy_missing(root / place, HOME / ROOT / place) for place in places) if is_elsewhere else 0
                if places:  # a new database has none
                    origin = f" instead of {root.parent}" if is_elsewhere else ""
                    files = f"; {copied} file{'s' * (copied != 1)} copied from there" if copied else ""
                    print(
                        f"{file.name}: artifacts are found relative to the project now{origin}{files}", file=sys.stderr, flush=True
                    )
    except (sqlite3.Error, OSError) as error:
        raise WorkspaceError(
            f"the artifact paths in {file} cannot be made relative: {error}",
            "make it writable, and try again when nothing else uses it",
        ) from error


def _check_is_shared(connection: sqlite3.Connection, file: Path) -> None:
    """Raise WorkspaceError where a database has the relative paths of a project elsewhere."""
    (count,) = connection.execute("SELECT count(*) FROM experiments WHERE artifact_location LIKE ?", [f"{ROOT}/%"]).fetchone()
    if count:
        raise WorkspaceError(
            f"{file} belongs to the project in {file.parent}, whose artifacts are relative to it",
            "run the command there, or let both projects use a server (MLFLOW_TRACKING_URI=http://…)",
        )


def _roots(connection: sqlite3.Connection) -> Iterator[tuple[str, Path]]:
    """Yield each folder of artifacts that MLflow chose, as the prefix of what it stores and as a path."""
    rows = connection.execute("SELECT experiment_id, artifact_location FROM experiments").fetchall()
    suffixes = {str(number): f"/{ROOT}/{number}" for number, _ in rows}
    locations = [(location, suffixes[str(number)]) for number, location in rows if location]
    for prefix in sorted({text[: -len(end)] for text, end in locations if text.endswith(end)}):
        path = unquote(urlsplit(prefix).path) if prefix.startswith("file:") else prefix
        if os.path.isabs(path):
            yield f"{prefix}/{ROOT}/", Path(path) / ROOT


def _replace(connection: sqlite3.Connection, table: str, column: str, prefix: str) -> list[str]:
    """Make the paths of a column relative; return them, but not those of experiments, from the folder of artifacts."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", [table]).fetchone():
        return []
    begins = f"substr({column}, 1, length(:prefix)) = :prefix"
    values = {"prefix": prefix, "root": f"{ROOT}/"}
    tail = f"substr({column}, length(:prefix) + 1)"
    places = [place for (place,) in connection.execute(f"SELECT {tail} FROM {table} WHERE {begins}", values)]
    connection.execute(f"UPDATE {table} SET {column} = :root || {tail} WHERE {begins}", values)
    return places if table != "experiments" else []


def _copy_missing(source: Path, target: Path) -> int:
    """Copy the files of a folder that the other one lacks; return how many."""
    missing = [path for path in source.rglob("*") if path.is_file() and not (target / path.relative_to(source)).exists()]
    for path in missing:
        copy = target / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy)
    return len(missing)
