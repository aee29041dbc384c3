"""Whether an MLflow server responds at all, asked without MLflow, whose client would wait for minutes, several times."""

from __future__ import annotations

import http.client
import threading
import urllib.error
import urllib.parse
import urllib.request

from darkroom.core.errors import WorkspaceError, without_login
from darkroom.tracking.home import EXPERIMENT

LIMIT = 10.0  # seconds for a whole response, however it comes
CALL = f"api/2.0/mlflow/experiments/get-by-name?experiment_name={EXPERIMENT}"  # `/health` says nothing about the database behind it
REMEDY = "start the server or correct MLFLOW_TRACKING_URI, then `darkroom sync`: nothing is lost; or set DARKROOM_TRACKING=off"


def is_server(address: str) -> bool:
    """Return whether a tracking URI is the address of a server."""
    return address.startswith(("http://", "https://"))


def check(address: str) -> None:
    """Raise WorkspaceError (retry) where a server takes the connection and does not answer a call of MLflow's API in LIMIT seconds.

    An answer of any kind is enough, and so is none of a server that is not there: both are MLflow's to report.
    """
    answered = threading.Event()
    url = f"{without_login(address).rstrip('/')}/{CALL}"
    threading.Thread(target=_ask, args=(url, LIMIT, answered), daemon=True).start()  # a timeout of urllib's is of each read alone
    if not answered.wait(LIMIT):
        raise WorkspaceError(f"MLflow at {address} does not respond within {LIMIT:g} s", REMEDY, retryable=True)


def _ask(url: str, limit: float, answered: threading.Event) -> None:
    try:
        with urllib.request.urlopen(url, timeout=limit) as response:
            response.read(2**20)
    except urllib.error.HTTPError:
        pass  # it answers
    except (OSError, ValueError, http.client.HTTPException) as error:
        if isinstance(getattr(error, "reason", error), TimeoutError):
            return
    answered.set()
