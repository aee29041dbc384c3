"""The registered model: its versions, their aliases, and the ledger of champions.

A checkpoint is a version once. An alias has no history, so every change of champion is also a tag of the registered model
that is never rewritten. The functions that need MLflow are in `handlers`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from darkroom.core.errors import WorkspaceError
from darkroom.tracking import requests
from darkroom.tracking.entities import (
    CHALLENGER,
    CHAMPION,
    CHECK,
    DATA,
    EVALUATION,
    EXPORTED,
    MODEL,
    REFERENCE,
    ROLLBACK,
    SHA,
    VERDICT,
    Promotion,
    Version,
)

__all__ = [
    "CHALLENGER", "CHAMPION", "CHECK", "DATA", "EVALUATION", "EXPORTED", "MODEL", "REFERENCE", "ROLLBACK", "SHA", "VERDICT",
    "Promotion", "Version", "address", "champion", "champion_history", "describe", "fetch", "ledger", "pick", "promote",
    "register", "versions",
]  # fmt: skip


def register(name: str, checkpoint: Path, package: Path, sha256: str, tags: dict[str, str], description: str) -> Version:
    """Make the checkpoint a version of the model `name`, unless it is one already, and give it the alias `challenger`.

    A version is identified by the sha256 of its checkpoint. `package` has the folders EXPORTED and EVALUATION, which become part
    of the version, and CHECK. Raises WeightsError where the packaged model predicts something else than its checkpoint.
    """
    paths = {"checkpoint": str(checkpoint.resolve()), "package": str(package.resolve())}
    return Version(**_call("register", name, **paths, sha256=sha256, tags=tags, description=description))


def champion(name: str) -> Version | None:
    """Return the version that is the champion, or None."""
    version = _call("champion", name)
    return Version(**version) if version else None


def promote(name: str, version: str, why: str, by: str = "register") -> None:
    """Make a version the champion and add a line to the ledger, unless it is the champion already."""
    _call("promote", name, version=version, why=why, by=by)


def describe(name: str, version: str, tags: dict[str, str], description: str) -> None:
    """Set tags and the description of a version."""
    _call("describe", name, version=version, tags=tags, description=description)


def fetch(name: str, version: str) -> Path:
    """Return a folder with `checkpoint` and, if the version has one, `evaluation`; it is downloaded once."""
    return Path(_call("fetch", name, version=version))


def versions(name: str) -> list[Version]:
    """Return every version, with its aliases and tags."""
    return [Version(**version) for version in _call("versions", name)]


def ledger(name: str) -> list[Promotion]:
    """Return the changes of champion, oldest first."""
    return [Promotion(**line) for line in _call("ledger", name)]


def _call(handler: str, name: str, **arguments: Any) -> Any:
    return requests.call(handler, name=name, **arguments)


def address(text: str) -> tuple[str, str] | None:
    """Return name and version or alias of `models:/NAME/VERSION`, `models:/NAME@ALIAS` or `models:/NAME`; else None."""
    if not text.startswith("models:/"):
        return None
    name, _, version = text.removeprefix("models:/").replace("@", "/").partition("/")
    return name, version or CHAMPION


def pick(listed: list[Version], wanted: str, name: str) -> Version:
    """Return the version with this number or alias, or raise WorkspaceError."""
    for item in listed:
        if wanted == item.version or wanted in item.aliases:
            return item
    numbers = ", ".join(item.version for item in listed) or "none"
    raise WorkspaceError(f"{name} has no version {wanted} (there are {numbers})", "`darkroom models` lists them")


def champion_history(promotions: list[Promotion]) -> list[str]:
    """Return the champions that a rollback can return to, the present one last; those rolled back from are left out."""
    history: list[str] = []
    for line in promotions:
        if line.by == ROLLBACK and line.version in history:
            del history[len(history) - history[::-1].index(line.version) :]
        else:
            history.append(line.version)
    return history
