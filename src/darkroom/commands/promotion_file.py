"""reports/promotion.json, the decision of `register`. Git brings it into a clone; the versions in MLflow stay where they are."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from darkroom.tracking import home

FILE = Path("reports/promotion.json")
REGISTER_HERE = "`dvc repro -f -s register` registers it here"


def read() -> dict[str, Any]:
    """Return the decision; empty where `register` has not run or its file is damaged."""
    with suppress(OSError, ValueError):
        return dict(json.loads(FILE.read_text(encoding="utf-8")))
    return {}


def registered_elsewhere(decision: dict[str, Any]) -> str:
    """Return a sentence about the version of a decision that was registered in another MLflow; empty where it has none."""
    version = decision.get("registered")
    if not version:
        return ""
    return f"version {version['version']} of {version['name']} in {FILE} is of another MLflow, as after a clone"


def is_registry_empty() -> bool:
    """Return whether the project's own database is known to have no version; of a server nothing is known without asking it."""
    file = home.database()
    if file is None:
        return False
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        return bool(connection.execute("SELECT count(*) FROM model_versions").fetchone() == (0,))
    return not file.exists()
