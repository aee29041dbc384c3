"""reports/promotion.json, the decision of `register`. Git brings it into a clone; the versions in MLflow stay where they are."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from darkroom.core.lazy import lazy_imports

with lazy_imports():
    from darkroom.core import git

FILE = Path("reports/promotion.json")
REGISTER_HERE = "`dvc repro -f -s register` registers it here"


def read() -> dict[str, Any]:
    """Return the decision; empty where `register` has not run or its file is damaged."""
    with suppress(OSError, ValueError):
        return dict(json.loads(FILE.read_text(encoding="utf-8")))
    return {}


def history() -> dict[str, dict[str, Any]]:
    """Return the decisions of the file and of all commits by the sha256 of their checkpoint; of each the newest with a verdict."""
    decisions: dict[str, dict[str, Any]] = {}
    for text in [FILE.read_text(encoding="utf-8") if FILE.exists() else "", *git.contents(FILE.as_posix())]:
        with suppress(ValueError, KeyError, TypeError):
            content = json.loads(text)
            if not decisions.setdefault(content["checkpoint_sha256"], content).get("verdict"):
                decisions[content["checkpoint_sha256"]] = content
    return decisions


def registered_elsewhere(decision: dict[str, Any]) -> str:
    """Return a sentence about the version of a decision that was registered in another MLflow; empty where it has none."""
    version = decision.get("registered")
    if not version:
        return ""
    return f"version {version['version']} of {version['name']} in {FILE} is of another MLflow, as after a clone"
