"""Whether an MLflow server responds at all, asked without MLflow, whose client would wait for minutes, several times."""

from __future__ import annotations

import http.client

from darkroom.core import deadline
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
    try:
        deadline.fetch(f"{without_login(address).rstrip('/')}/{CALL}", LIMIT)
    except (OSError, ValueError, http.client.HTTPException) as error:
        if isinstance(getattr(error, "reason", error), TimeoutError):
            raise WorkspaceError(f"MLflow at {address} does not respond within {LIMIT:g} s", REMEDY, retryable=True) from error
