"""Requests to MLflow that a stage or command waits for. The uploader serves them: it has MLflow in memory.

A request is a file in `.darkroom/journal/requests/`, and so is its response; both are for their owner alone. Where no uploader
responds, or its work fails, the process that made the request does the work itself, and shows the error.
"""

from __future__ import annotations

import hashlib
import hmac
import inspect
import os
import pkgutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, get_type_hints

from pydantic_core import to_jsonable_python

from darkroom.core import atomic, json_files, strict_json
from darkroom.core.errors import WorkspaceError, masked
from darkroom.core.lazy import lazy_imports
from darkroom.core.locks import NOTICE, hold, is_taken
from darkroom.tracking import home, records, server_check

with lazy_imports():
    from darkroom.tracking import mlflow_client

if TYPE_CHECKING:
    from mlflow import MlflowClient as Client
else:
    Client = Any  # so that annotations can be read without MLflow

REQUESTS = home.RECORDS / "requests"
KEY = home.RECORDS / "requests.key"
KEY_BYTES = 32
LOCK = home.HOME / ".darkroom/registry.lock"  # held while a function runs
START_LIMIT = 20.0  # seconds in which an uploader must have started
LOGIN = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")  # variables of MLflow's
LIMIT = 600.0  # seconds for the work of another process
PROBE_INTERVAL = 10.0  # seconds between looks at whether the server of an uploader at work still responds
CHECK_INTERVAL = 2.0  # seconds between looks at whether the uploader still runs
LEFT_OVER_AGE = 60.0  # seconds after which a lock without its request is none that is being made
P = ParamSpec("P")
Result = TypeVar("Result")


def in_mlflow(function: Callable[Concatenate[Client, P], Result]) -> Callable[P, Result]:
    """Let the uploader run a function; callers leave out its first argument, MLflow's client.

    Arguments are JSON values or paths. The result comes back through JSON as what the annotation says.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> Result:
        _, *bound = inspect.signature(function).bind(None, *args, **kwargs).arguments.items()
        arguments = {key: str(value.resolve()) if isinstance(value, Path) else value for key, value in bound}
        name = f"{function.__module__}:{function.__name__}"
        with _noticed():
            response = send(name, arguments)
            result = perform(name, arguments) if response is None else response["result"]
        return json_files.adapter(get_type_hints(function)["return"]).validate_python(result)  # type: ignore[no-any-return]

    return call


def perform(name: str, arguments: dict[str, Any]) -> Any:
    """Run a function made by `in_mlflow`, `MODULE:NAME`, in this process; return its result as a JSON value.

    Raises WorkspaceError without MLflow.
    """
    with mlflow_client.reachable(), nullcontext() if home.is_read_only() else _alone():
        function = pkgutil.resolve_name(name).__wrapped__
        return to_jsonable_python(function(mlflow_client.client(), **arguments))


@contextmanager
def _alone() -> Iterator[None]:
    """Hold the lock of such functions. Raises WorkspaceError where another process holds it for LIMIT seconds."""
    with hold(LOCK, wait=LIMIT) as acquired:
        if not acquired:
            problem = f"another process has been at work in MLflow for more than {LIMIT / 60:g} minutes, and holds {LOCK}"
            raise WorkspaceError(problem, f"see {home.RECORDS / 'uploader.log'}; end that process, if it hangs", retryable=True)
        yield


@contextmanager
def _noticed() -> Iterator[None]:
    """Say on stderr what is waited for where the block takes longer than a few seconds; the project's own database is quick."""
    text = f"waiting for MLflow at {masked(home.uri())}"
    notice = threading.Timer(NOTICE, partial(print, text, file=sys.stderr, flush=True))
    notice.daemon = True
    if home.database() is None:
        notice.start()
    try:
        yield
    finally:
        notice.cancel()


def send(name: str, arguments: dict[str, Any]) -> dict[str, Any] | None:
    """Return the uploader's response, `{"result": …}`; None where no uploader could give one.

    Raises WorkspaceError (retry) where the uploader is at work and its server does not respond, or for LIMIT seconds.
    """
    if home.is_read_only() or not _make_private(REQUESTS):
        return None
    file = REQUESTS / f"{time.time_ns()}-{os.urandom(4).hex()}.json"
    response, alive = file.with_suffix(".response"), file.with_suffix(".lock")
    with hold(alive):
        atomic.write_json(file, {"function": name, "arguments": arguments, "mlflow": _mlflow()}, private=True)
        begin = time.monotonic()
        deadline, check, probe = begin + START_LIMIT, 0.0, begin + PROBE_INTERVAL
        try:
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
                if now > probe and server_check.is_server(home.uri()):
                    server_check.check(home.uri())
                    probe = time.monotonic() + PROBE_INTERVAL
                if now > begin + LIMIT:
                    problem = f"the uploader has not answered for {LIMIT / 60:g} minutes"
                    raise WorkspaceError(problem, f"see {home.RECORDS / 'uploader.log'}", retryable=True)
                time.sleep(0.05)
            with suppress(ValueError):  # damaged
                return strict_json.loads(response.read_text(encoding="utf-8"))
            return None
        finally:
            for path in (file, response, alive):
                path.unlink(missing_ok=True)


def _mlflow() -> str:
    """Return what identifies the MLflow of this process and its user.

    Passwords are part of it, which a file should not have: without the key nobody can try from a request which one it is.
    """
    text = "\n".join([home.uri(), *(os.environ.get(name, "") for name in LOGIN)])
    return hmac.new(_key(), text.encode(), hashlib.sha256).hexdigest()


def _key() -> bytes:
    """Return the key of this project's requests, made at random when it is first needed."""
    with hold(KEY.with_suffix(".lock")):
        with suppress(OSError):
            key = KEY.read_bytes()
            if len(key) == KEY_BYTES:
                return key
        key = os.urandom(KEY_BYTES)
        with atomic.new_file(KEY) as working:
            working.touch(0o600)
            working.write_bytes(key)
        return key


def _make_private(folder: Path) -> bool:
    """Make a folder that nobody else may enter; return False where it is another user's, with whom this one shares the project."""
    folder.mkdir(0o700, parents=True, exist_ok=True)
    with suppress(OSError):
        folder.chmod(0o700)  # of an earlier version
    return os.access(folder, os.W_OK)


def remove_left_overs() -> None:
    """Remove what killed processes have left of requests: unfinished files, and locks and responses that nobody waits for."""
    atomic.sweep([REQUESTS])
    for path in (*REQUESTS.glob("*.response"), *REQUESTS.glob("*.lock")):
        with suppress(OSError):
            lock = path.with_suffix(".lock")
            is_old = time.time() - path.stat().st_mtime > LEFT_OVER_AGE
            if is_old and not path.with_suffix(".json").exists() and not (lock.exists() and is_taken(lock)):
                path.unlink()


def serve(is_connected: bool = True) -> bool:
    """Respond to all requests, and return whether there were any.

    The response is None where the function fails, where the request is for another MLflow, or without MLflow.
    """
    files = sorted(REQUESTS.glob("*.json"))
    for file in files:
        with suppress(FileNotFoundError, ValueError, KeyError, TypeError):  # withdrawn, damaged, or of another version
            request = strict_json.loads(file.read_text(encoding="utf-8"))
            name, arguments, is_ours = request["function"], request["arguments"], hmac.compare_digest(request["mlflow"], _mlflow())
            if is_taken(file.with_suffix(".lock")):  # whoever made it still waits
                response = None
                try:
                    response = {"result": perform(name, arguments)} if is_connected and is_ours else None
                except Exception as error:
                    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {name} failed: {masked(repr(error))}", flush=True)
                atomic.write_json(file.with_suffix(".response"), response, private=True)
            else:  # killed: it will not remove them
                for suffix in (".response", ".lock"):
                    file.with_suffix(suffix).unlink(missing_ok=True)
        file.unlink(missing_ok=True)
    return bool(files)
