"""Requests to MLflow that a stage or command waits for; the uploader serves them, which has MLflow in memory already.

A request is a file in `.darkroom/journal/requests/`, and so is its response. Where no uploader responds, or its work
fails, the process that made the request does the work itself, and shows the error.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from darkroom.core import atomic
from darkroom.core.lazy import LazyModule
from darkroom.core.locks import hold, is_taken
from darkroom.tracking import home, records

if TYPE_CHECKING:
    from pathlib import Path

    from darkroom.tracking import handlers
else:
    handlers = LazyModule("darkroom.tracking.handlers")  # imports MLflow

REQUESTS = home.RECORDS / "requests"
START_LIMIT = 20.0  # seconds in which an uploader must have started
CHECK_INTERVAL = 2.0  # seconds between looks at whether the uploader still runs
Work = Callable[[str, dict[str, Any]], Any]


@dataclass(frozen=True)
class Request:
    """A function of `handlers`, its arguments, and the MLflow that it is for."""

    handler: str
    arguments: dict[str, Any]
    uri: str


def call(handler: str, **arguments: Any) -> Any:
    """Return the result of a function of `handlers`, as JSON has it."""
    response = send(Request(handler, arguments, home.uri()))
    return handlers.perform(handler, arguments) if response is None else response["result"]


def send(request: Request) -> dict[str, Any] | None:
    """Return the uploader's response, `{"result": …}`; None where no uploader could give one."""
    file = REQUESTS / f"{time.time_ns()}-{os.urandom(4).hex()}.json"
    response, alive = file.with_suffix(".response"), file.with_suffix(".lock")
    with hold(alive):
        atomic.write_json(file, asdict(request))
        try:
            return _wait(response)
        finally:
            for path in (file, response, alive):
                path.unlink(missing_ok=True)


def _wait(response: Path) -> dict[str, Any] | None:
    deadline, check = time.monotonic() + START_LIMIT, 0.0
    while not response.exists():
        now = time.monotonic()
        if now >= check:
            check = now + CHECK_INTERVAL
            if is_taken(records.LOCK):
                deadline = now + START_LIMIT
            else:
                records.start_uploader()
        if now > deadline:
            return None
        time.sleep(0.05)
    return json.loads(response.read_text(encoding="utf-8"))


def serve(work: Work | None, uri: str) -> bool:
    """Respond to all requests, and return whether there were any.

    The response is None where the work fails, where the request is for another MLflow, or without `work`.
    """
    files = sorted(REQUESTS.glob("*.json"))
    for file in files:
        try:
            request = Request(**json.loads(file.read_text(encoding="utf-8")))
        except FileNotFoundError:  # withdrawn
            continue
        if is_taken(file.with_suffix(".lock")):  # whoever made it still waits
            result = _perform(work, request) if work and request.uri == uri else None
            atomic.write_json(file.with_suffix(".response"), result)
        file.unlink(missing_ok=True)
    return bool(files)


def _perform(work: Work, request: Request) -> dict[str, Any] | None:
    try:
        return {"result": work(request.handler, request.arguments)}
    except Exception as error:
        print(f"{time.strftime('%F %T')} {request.handler} failed: {error!r}", flush=True)
        return None
