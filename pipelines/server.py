"""Which Prefect server flows report to: PREFECT_API_URL's, else that of `make schedule`, else a temporary one for this run."""

from __future__ import annotations

import json
import os
import urllib.request
from pathlib import Path

KNOWN = Path(".darkroom/schedule.json")  # what `make schedule` started
SETTINGS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_SERVER_DATABASE_TIMEOUT": "60",  # seconds: SQLite's lock is held longer than its 10 at times
    "DO_NOT_TRACK": "1",
}


def settings() -> None:
    """Set what Prefect reads when it is imported."""
    for key, value in SETTINGS.items():
        os.environ.setdefault(key, value)
    if not os.environ.get("PREFECT_API_URL") and (found := scheduled()):
        os.environ["PREFECT_API_URL"] = found


def project() -> str:
    """Return what the work pool, the deployments and the events of this folder are called."""
    return os.environ.get("DARKROOM_PROJECT") or Path.cwd().name


def scheduled() -> str:
    """Return the address of the server that `make schedule` started for this folder, if it answers."""
    try:
        address = json.loads(KNOWN.read_text(encoding="utf-8"))["api"]
        return address if answers(address) else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def answers(address: str) -> bool:
    """Tell whether a Prefect server answers at an address."""
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=5) as response:
            return response.read().strip() == b"true"
    except (OSError, ValueError):
        return False
