"""The Prefect server that flows use, and who may use it.

It is that of PREFECT_API_URL, else that of `make schedule`, else a temporary one for the run. Whoever may write to a
Prefect server runs commands on the machine of its worker, so the servers that are started here have a password
(docs/security.md). It is sent to no other server.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import time
import urllib.error
import urllib.request
import uuid
from functools import cache
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from darkroom.core import atomic, deadline, strict_json
from darkroom.core.errors import WorkspaceError, without_login

UNAUTHENTICATED = 401
BUSY, BUSY_RETRIES = 503, 10  # the HTTP status of a server that cannot write now, and how often it is asked again
TIMEOUT, BUSY_TIMEOUT = 10.0, 60.0  # seconds in which a server responds at all, and to a request while it is busy
TOKEN_AGE = 1200.0  # seconds for which a token against forged requests is used; it expires after an hour
STATE = Path(".darkroom/schedule.json")  # what `make schedule` started
PASSWORD = Path(".darkroom/schedule/password")  # of its server, for its owner alone: "user:password"
CLIENT, SERVER = "PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING"
SETTINGS = {
    "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": "http://127.0.0.1",  # no page of another origin reads; the scheduled server has its own
    "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
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
    if not os.environ.get("PREFECT_API_URL") and (address := scheduled_address()):
        os.environ["PREFECT_API_URL"] = address
    address = os.environ.get("PREFECT_API_URL", "")
    if login := credentials(address):
        os.environ.update(login)
        return
    # the profile that `make schedule` has written is of another server, or of one that does not respond, and has its password
    os.environ.setdefault("PREFECT_PROFILE", "ephemeral")
    if not address:  # a temporary server listens on a port too, and has the database of the scheduled one
        os.environ[CLIENT] = os.environ.setdefault(SERVER, _new_password())


def _new_password() -> str:
    return f"darkroom:{secrets.token_urlsafe(24)}"


def password(keep: bool = True) -> str:
    """Return the password of the server of `make schedule`; the first time, or with `keep=False`, a new one is written."""
    if not (keep and PASSWORD.exists()):
        write_private(PASSWORD, _new_password() + "\n")
    return PASSWORD.read_text(encoding="utf-8").strip()


def write_private(path: Path, text: str) -> None:
    """Write a file that nobody but its owner can read."""
    with atomic.new_file(path) as working:
        working.touch(mode=0o600)
        working.write_text(text, encoding="utf-8")


def credentials(api: str) -> dict[str, str]:
    """Return the variables with which clients log in to an address: the password of the server that was started here.

    Nothing for any other server, for which the person's own PREFECT_API_AUTH_STRING and PREFECT_API_KEY count, and nothing
    while the server does not run: any process could listen on its port then.
    """
    return {CLIENT: password()} if _is_own(api) and PASSWORD.exists() else {}


def _is_own(api: str) -> bool:
    process = read_state().get("server")
    return bool(process and process.get("api") == api and is_running(process))


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
        state = dict(strict_json.loads(STATE.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}
    return state if state.pop("folder", folder_id()) == folder_id() else {}


def folder_id() -> str:
    """Return what identifies this folder on this machine, also after it was renamed."""
    status = Path().stat()
    return f"{status.st_dev}:{status.st_ino}"


def is_running(process: dict[str, Any] | None) -> bool:
    """Tell whether a process that was started still runs; another process may have its id now."""
    if not process:
        return False
    try:
        running = psutil.Process(process["pid"])
        return bool(running.create_time() == process["born"] and running.status() != psutil.STATUS_ZOMBIE)
    except (psutil.NoSuchProcess, KeyError):
        return False


def is_healthy(address: str) -> bool:
    """Tell whether a Prefect server responds at an address."""
    try:
        return deadline.fetch(f"{without_login(address)}/health", TIMEOUT).strip() == b"true"
    except (OSError, ValueError, HTTPException):
        return False


def check_response(address: str, remedy: str = "start it, or unset PREFECT_API_URL: a flow then needs no server") -> None:
    """Raise WorkspaceError where a server is silent, not there (with this remedy) or refuses the password; without an address
    nothing is asked."""
    try:
        if address:
            deadline.fetch(f"{without_login(address)}/health", TIMEOUT)
            deadline.fetch(urllib.request.Request(f"{without_login(address)}/admin/version", headers=_login(address)), TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == UNAUTHENTICATED:
            raise WorkspaceError(f"the Prefect server at {address} refuses this password", _login_remedy(address)) from error
    except (OSError, ValueError, HTTPException) as error:
        raise WorkspaceError(f"the Prefect server at {address} does not respond: {error}", remedy, retryable=True) from error


def is_open(api: str) -> bool:
    """Tell whether a server answers everybody, without a password."""
    try:
        deadline.fetch(f"{without_login(api)}/admin/version", TIMEOUT)
    except (OSError, ValueError, HTTPException):
        return False
    return True


def request(api: str, path: str, content: dict[str, Any] | None = None, method: str = "") -> Any:
    """Return the response of Prefect's API: GET, or POST where there is content; a WorkspaceError where there is none.

    A server whose database is locked is asked again, as Prefect's own clients do.
    """
    body = None if content is None else json.dumps(content).encode()
    method = method or ("GET" if body is None else "POST")
    headers = {"Content-Type": "application/json"} | _login(api)
    try:
        if method != "GET":
            headers |= _csrf_token(api, headers.get("Authorization", ""), int(time.monotonic() // TOKEN_AGE))
        return _send(urllib.request.Request(f"{without_login(api)}/{path}", body, headers, method=method))
    except (OSError, HTTPException) as error:
        remedy = "see .darkroom/schedule/server.log"
        if getattr(error, "code", None) == UNAUTHENTICATED:
            remedy = _login_remedy(api)
        raise WorkspaceError(f"the request to the Prefect server at {api} failed: {error}", remedy) from error


def _login_remedy(api: str) -> str:
    own = f"{PASSWORD} is not what the server began with: `darkroom schedule stop`, then `darkroom schedule start`"
    return own if _is_own(api) else f"set {CLIENT} to the server's user:password, or PREFECT_API_KEY"


def _login(api: str) -> dict[str, str]:
    variables, parts = os.environ | credentials(api), urlsplit(api)
    if login := variables.get(CLIENT) or (f"{parts.username}:{parts.password}" if parts.username else ""):
        return {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}
    return {"Authorization": f"Bearer {variables['PREFECT_API_KEY']}"} if variables.get("PREFECT_API_KEY") else {}


@cache
def _csrf_token(api: str, login: str, _: int) -> dict[str, str]:
    """Return the headers that a server wants with a change where it protects itself against forged requests.

    The last argument is the period in which they are used.
    """
    client = str(uuid.uuid4())
    headers = {"Authorization": login} if login else {}
    try:
        token = _send(urllib.request.Request(f"{without_login(api)}/csrf-token?client={client}", headers=headers))["token"]
    except urllib.error.HTTPError as error:
        if error.code in (404, 422):  # it has no such protection
            return {}
        raise
    return {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": client}


def _send(message: urllib.request.Request) -> Any:
    retries = BUSY_RETRIES
    while True:
        try:
            return strict_json.loads(deadline.fetch(message, BUSY_TIMEOUT) or b"null")
        except urllib.error.HTTPError as error:
            if error.code != BUSY or not retries:
                raise
        retries -= 1
        time.sleep(1)
