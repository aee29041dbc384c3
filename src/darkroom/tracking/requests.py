"""Requests to MLflow that a stage or command waits for. The uploader serves them: it has MLflow in memory.

A request is a file in `.darkroom/journal/requests/`, and so is its response. Where no uploader responds, or
its work fails, the process that made the request does the work itself, and shows the error.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, get_type_hints

from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python

from darkroom.core import atomic
from darkroom.core.lazy import lazy_imports
from darkroom.core.locks import hold, is_taken
from darkroom.tracking import home, records

with lazy_imports():
    from darkroom.tracking import mlflow_client
if TYPE_CHECKING:
    from mlflow import MlflowClient as Client
else:
    Client = Any  # so that annotations can be read without MLflow

REQUESTS = home.RECORDS / "requests"
LOCK = home.HOME / ".darkroom/registry.lock"  # held while a function runs
START_LIMIT = 20.0  # seconds in which an uploader must have started
CHECK_INTERVAL = 2.0  # seconds between looks at whether the uploader still runs
Work = Callable[[str, dict[str, Any]], Any]
P = ParamSpec("P")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Request:
    """A function `MODULE:NAME` made by `in_mlflow`, its arguments, and the MLflow that it is for."""

    function: str
    arguments: dict[str, Any]
    uri: str


def in_mlflow(function: Callable[Concatenate[Client, P], Result]) -> Callable[P, Result]:
    """Let the uploader run a function; callers leave out its first argument, MLflow's client.

    Arguments are JSON values or paths. The result comes back through JSON as what the annotation says.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> Result:
        _, *bound = inspect.signature(function).bind(None, *args, **kwargs).arguments.items()
        arguments = {key: str(value.resolve()) if isinstance(value, Path) else value for key, value in bound}
        name = f"{function.__module__}:{function.__name__}"
        response = send(Request(name, arguments, home.uri()))
        result = perform(name, arguments) if response is None else response["result"]
        return TypeAdapter(get_type_hints(function)["return"]).validate_python(result)

    return call


def perform(name: str, arguments: dict[str, Any]) -> Any:
    """Run a function in this process and return its result as a JSON value; raise WorkspaceError without
    MLflow."""
    module, _, function = name.partition(":")
    with mlflow_client.reachable(), hold(LOCK):
        work = getattr(importlib.import_module(module), function).__wrapped__
        return to_jsonable_python(work(mlflow_client.client(), **arguments))


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
        except (FileNotFoundError, ValueError, TypeError):  # withdrawn, damaged, or of another version
            file.unlink(missing_ok=True)
            continue
        if is_taken(file.with_suffix(".lock")):  # whoever made it still waits
            result = _perform(work, request) if work and request.uri == uri else None
            atomic.write_json(file.with_suffix(".response"), result)
        file.unlink(missing_ok=True)
    return bool(files)


def _perform(work: Work, request: Request) -> dict[str, Any] | None:
    try:
        return {"result": work(request.function, request.arguments)}
    except Exception as error:
        print(f"{time.strftime('%F %T')} {request.function} failed: {error!r}", flush=True)
        return None
