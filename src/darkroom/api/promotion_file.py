"""reports/promotion.json, the decision of `register`. Git brings it into a clone; the versions in MLflow stay where they are."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from darkroom.core import json_files, strict_json
from darkroom.core.lazy import lazy_imports

with lazy_imports():
    from darkroom.core import git

FILE = Path("reports/promotion.json")
REGISTER_HERE = "`dvc repro -f -s register` registers it here"


@dataclass(frozen=True)
class Registered:
    """The version that the model is."""

    name: str
    version: str
    aliases: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Verdict:
    """The result of the checks; `champion` is the one that the model was compared with, if there was one."""

    champion: str | None = None


@dataclass(frozen=True)
class Decision:
    """The part of the file that commands show."""

    registered: Registered | None = None
    verdict: Verdict | None = None


def read() -> Decision:
    """Return the decision; an empty one where `register` has not run. Raises WorkspaceError where the file is damaged."""
    try:
        return json_files.read(FILE, Decision, f"`git checkout {FILE}` restores it, or `dvc repro -f -s register` writes it again")
    except FileNotFoundError:
        return Decision()


def history() -> dict[str, dict[str, Any]]:
    """Return the decisions of the file and of all commits by the sha256 of their checkpoint; of each the newest with a verdict."""
    decisions: dict[str, dict[str, Any]] = {}
    for text in [FILE.read_text(encoding="utf-8") if FILE.exists() else "", *git.contents(FILE.as_posix())]:
        with suppress(ValueError, KeyError, TypeError, RecursionError):
            content = strict_json.loads(text)
            if not decisions.setdefault(content["checkpoint_sha256"], content).get("verdict"):
                decisions[content["checkpoint_sha256"]] = content
    return decisions


def registered_elsewhere(decision: Decision) -> str:
    """Return a sentence about the version of a decision that was registered in another MLflow; empty where it has none."""
    version = decision.registered
    if version is None:
        return ""
    return f"version {version.version} of {version.name} in {FILE} is of another MLflow, as after a clone"
