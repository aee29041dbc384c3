"""The Prefect server that flows use.

It is that of PREFECT_API_URL, else that of `make schedule`, else a temporary one for the run.
"""

from __future__ import annotations

import json
import os
import time
import urllib.request
from pathlib import Path
from typing import Any

from darkroom.core.errors import WorkspaceError

BUSY, BUSY_RETRIES = 503, 10  # the HTTP status of a server that cannot write now, and how often it is asked again
STATE = Path(".darkroom/schedule.json")  # what `make schedule` started
SETTINGS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_SERVER_DATABASE_TIMEOUT": "60",  # seconds: SQLite's lock is at times held longer than the default of 10
    "DO_NOT_TRACK": "1",
}


def configure() -> None:
    """Set the environment variables that Prefect reads when it is imported."""
    for key, value in SETTINGS.items():
        os.environ.setdefault(key, value)
    if os.environ.get("PREFECT_API_URL"):
        return
    if address := scheduled_address():
        os.environ["PREFECT_API_URL"] = address
    else:  # the profile that `make schedule` has written names a server that does not respond
        os.environ.setdefault("PREFECT_PROFILE", "ephemeral")


def project() -> str:
    """Return the name of this folder's work pool, deployments and events."""
    return os.environ.get("DARKROOM_PROJECT") or Path.cwd().name


def scheduled_address() -> str:
    """Return the address of the server that `make schedule` started here, or "" if it does not respond."""
    address = read_state().get("api", "")
    return address if address and is_healthy(address) else ""


def read_state() -> dict[str, Any]:
    """Return what `make schedule` started: `server` and `worker`, the address `api`, the `port`.

    A copy of the project has the file of its original, whose processes are none of the copy's.
    """
    try:
        state = dict(json.loads(STATE.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}
    return state if state.pop("folder", folder_id()) == folder_id() else {}


def folder_id() -> str:
    """Return what identifies this folder on this machine, also after it was renamed."""
    status = Path().stat()
    return f"{status.st_dev}:{status.st_ino}"


def is_healthy(address: str) -> bool:
    """Tell whether a Prefect server responds at an address."""
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=5) as response:
            return response.read().strip() == b"true"
    except (OSError, ValueError):
        return False


def request(api: str, path: str, content: dict[str, Any] | None = None, method: str | None = None) -> Any:
    """Return the response of Prefect's API: GET, or POST where there is content; a WorkspaceError where there is none.

    A server whose database is locked is asked again, as Prefect's own clients do.
    """
    body = None if content is None else json.dumps(content).encode()
    message = urllib.request.Request(f"{api}/{path}", body, {"Content-Type": "application/json"}, method=method)
    retries = BUSY_RETRIES
    while True:
        try:
            with urllib.request.urlopen(message, timeout=30) as response:
                return json.loads(response.read() or b"null")
        except OSError as error:
            if getattr(error, "code", None) != BUSY or not retries:
                problem, remedy = f"the request to the Prefect server at {api} failed: {error}", "see .darkroom/schedule/server.log"
                raise WorkspaceError(problem, remedy) from error
        retries -= 1
        time.sleep(1)
