"""Requests to the uploader: served once, and never waited for in vain."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from darkroom.core import atomic, locks
from darkroom.core.errors import WorkspaceError
from darkroom.core.locks import hold
from darkroom.tracking import home, records, requests, server_check

HALF = ("half", {"number": 20})


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(records, "start_uploader", lambda: None)
    monkeypatch.setattr(requests, "START_LIMIT", 60.0)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "here")


def write_request(uri: str) -> Path:
    """Write a request, as a command does that is at once killed, and return its file."""
    requests.REQUESTS.mkdir(parents=True)
    file = requests.REQUESTS / "1.json"
    file.write_text(json.dumps({"function": "promote", "arguments": {}, "mlflow": mlflow_of(uri)}))
    return file


def mlflow_of(uri: str) -> str:
    """Return what identifies an MLflow in a request."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        return requests._mlflow()


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@contextmanager
def uploader(is_connected: bool = True) -> Iterator[None]:
    """Serve one request in another thread."""

    def serve() -> None:
        while not requests.serve(is_connected):
            time.sleep(0.01)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield
    thread.join(60)
    assert not thread.is_alive()


def test_a_request_is_served_and_forgotten(monkeypatch):
    """The response is the result of the work, and no file is left."""
    monkeypatch.setattr(requests, "perform", lambda name, arguments: {"half": arguments["number"] / 2})
    with uploader():
        assert requests.send(*HALF) == {"result": {"half": 10}}
    assert not list(requests.REQUESTS.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
def test_a_request_has_no_password_and_is_its_owners_alone(monkeypatch):
    """A request names its MLflow by a digest that needs the project's key: passwords cannot be tried on it, and no one else may
    read requests, responses or the key, whatever the umask and an earlier version."""
    uri, login = "http://me:pass123@127.0.0.1:1", {name: f"{name} 1" for name in requests.LOGIN}
    requests.REQUESTS.mkdir(parents=True, mode=0o755)
    for name, value in {"MLFLOW_TRACKING_URI": uri, **login}.items():
        monkeypatch.setenv(name, value)
    written = {}
    new_file = atomic.new_file

    @contextmanager
    def watched(path):
        with new_file(path) as working:
            yield working
            written[path.suffix] = working.read_bytes(), mode(working)

    monkeypatch.setattr(requests.atomic, "new_file", watched)
    monkeypatch.setattr(requests, "perform", lambda name, arguments: 10)
    umask = os.umask(0)
    try:
        with uploader():
            assert requests.send(*HALF) == {"result": 10}
    finally:
        os.umask(umask)
    assert {suffix: permissions for suffix, (_, permissions) in written.items()} == dict.fromkeys(
        (".key", ".json", ".response"), 0o600
    )
    assert mode(requests.REQUESTS) == 0o700
    assert mode(requests.KEY) == 0o600
    request = written[".json"][0].decode()
    plain = hashlib.sha256("\n".join([uri, *login.values()]).encode()).hexdigest()
    assert not [text for text in ("pass123", plain, *login.values()) if text in request]
    key = requests.KEY.read_bytes()
    assert json.loads(request)["mlflow"] == mlflow_of(uri)
    requests.KEY.write_bytes(b"")  # as a full disk leaves it
    assert json.loads(request)["mlflow"] != mlflow_of(uri)
    assert len({key, requests.KEY.read_bytes(), b""}) == 3


def test_a_folder_of_requests_of_another_user_is_no_obstacle(monkeypatch):
    """Who shares a project with its owner, and cannot send a request, does the work itself."""
    monkeypatch.setattr(requests.os, "access", lambda path, mode: path != requests.REQUESTS)
    assert requests.send(*HALF) is None
    assert not list(requests.REQUESTS.iterdir())


@pytest.mark.parametrize("result", [{}, [], None, False, 0, ""])
def test_every_result_is_a_result(monkeypatch, result):
    """The work is done once, also where its result is empty; only where nobody responds the caller does
    it."""
    calls = []

    def work(name, arguments):
        calls.append(name)
        return result

    @requests.in_mlflow
    def half(client, number: int) -> Any:
        """Never run: `perform` is replaced."""

    monkeypatch.setattr(requests, "perform", work)
    with uploader():
        assert half(1) == result
    assert len(calls) == 1
    monkeypatch.setattr(requests, "START_LIMIT", 0.0)
    assert half(number=2) == result
    assert [name.rpartition(":")[2] for name in calls] == ["half"] * 2


def test_work_that_fails_gives_no_response(monkeypatch, capsys):
    """Where the work fails there is no response, so that the caller does it and shows the error; the log has
    it, too."""
    monkeypatch.setattr(requests, "perform", lambda name, arguments: 1 / 0)
    with uploader():
        assert requests.send(*HALF) is None
    assert "ZeroDivisionError" in capsys.readouterr().out


def test_an_uploader_for_another_mlflow_does_not_do_the_work(monkeypatch):
    """A request is only for the uploader that works for the same tracking server."""
    done: list[str] = []
    monkeypatch.setattr(requests, "perform", lambda name, arguments: done.append(name))
    request = write_request("elsewhere")
    with locks.hold(request.with_suffix(".lock")):
        assert requests.serve()
    assert request.with_suffix(".response").read_text() == "null\n"
    assert not done


def test_without_an_uploader_nobody_waits_for_ever(monkeypatch):
    """Where no process takes the lock in START_LIMIT seconds the request is withdrawn."""
    monkeypatch.setattr(requests, "START_LIMIT", 0.2)
    assert requests.send(*HALF) is None
    assert not list(requests.REQUESTS.iterdir())


@pytest.mark.slow
def test_a_slow_uploader_is_waited_for(monkeypatch):
    """As long as an uploader runs, a response may take longer than it would be given to start."""
    monkeypatch.setattr(requests, "START_LIMIT", 0.3)
    monkeypatch.setattr(requests, "CHECK_INTERVAL", 0.05)
    monkeypatch.setattr(requests, "perform", lambda name, arguments: "late")
    holding = threading.Event()

    def run() -> None:
        with locks.hold(home.RECORDS / "uploader.lock"):
            holding.set()
            time.sleep(1.5)
            requests.serve()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert holding.wait(60)
    assert requests.send(*HALF) == {"result": "late"}
    thread.join(60)


def test_a_server_that_falls_silent_during_the_work_ends_the_wait(monkeypatch):
    """While the uploader is at work a command looks whether its server still responds, and ends with 75 where it does not, or
    where the work takes far too long.
    """
    monkeypatch.setattr(server_check, "LIMIT", 0.2)
    monkeypatch.setattr(requests, "PROBE_INTERVAL", 0.2)
    with locks.hold(home.RECORDS / "uploader.lock"), socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(WorkspaceError, match="does not respond") as caught:
            requests.send(*HALF)
        assert caught.value.code == 75
        monkeypatch.setattr(requests, "LIMIT", 0.1)
        monkeypatch.setattr(requests, "PROBE_INTERVAL", 60.0)
        with pytest.raises(WorkspaceError, match="has not answered") as caught:
            requests.send(*HALF)
    assert caught.value.code == 75
    assert not list(requests.REQUESTS.iterdir())


def test_an_uploader_that_cannot_work_responds():
    """Without a tracking server the uploader responds at once that it cannot do the work."""
    with uploader(is_connected=False):
        assert requests.send(*HALF) is None


def test_a_request_that_nobody_waits_for_is_dropped(monkeypatch):
    """What a killed command has asked for is not done later."""
    done: list[str] = []
    monkeypatch.setattr(requests, "perform", lambda name, arguments: done.append(name))
    write_request("here")
    assert requests.serve()
    assert not done
    assert not list(requests.REQUESTS.glob("*.json"))


def test_left_overs_of_killed_requests_are_removed(monkeypatch):
    """A new uploader removes half a request, and a lock and a response that nobody waits for; not those of a living process."""
    scratch = atomic.scratch_folder(requests.REQUESTS / "half.json")
    killed = requests.REQUESTS / f".killed.json.{atomic.MACHINE}x.partial"
    killed.mkdir(parents=True)
    (killed / "lock").touch()
    for name in ("old.lock", "old.response", "waits.json", "waits.lock", "new.lock"):
        (requests.REQUESTS / name).touch()
    for name in ("old.lock", "old.response", "waits.lock"):
        os.utime(requests.REQUESTS / name, (1, 1))
    with scratch as living, hold(requests.REQUESTS / "taken.lock"):
        os.utime(requests.REQUESTS / "taken.lock", (1, 1))
        requests.remove_left_overs()
        left = {path.name for path in requests.REQUESTS.iterdir()}
    assert left == {living.name, "taken.lock", "waits.json", "waits.lock", "new.lock"}


def test_a_damaged_request_is_dropped():
    """A file that is no request, or one of another version, does not keep the uploader from the others."""
    requests.REQUESTS.mkdir(parents=True)
    for number, text in enumerate(("", "[]", '{"handler": "promote"}')):
        (requests.REQUESTS / f"{number}.json").write_text(text)
    assert requests.serve()
    assert not list(requests.REQUESTS.glob("*.json"))
