"""Requests to the uploader: served once, and never waited for in vain."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from darkroom.core import locks
from darkroom.tracking import home, records, requests
from darkroom.tracking.requests import Request

HALF = Request("half", {"number": 20}, "here")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(records, "start_uploader", lambda: None)
    monkeypatch.setattr(requests, "START_LIMIT", 60.0)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "here")


@contextmanager
def uploader(work, uri: str = "here") -> Iterator[None]:
    """Serve one request in another thread."""

    def serve() -> None:
        while not requests.serve(work, uri):
            time.sleep(0.01)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield
    thread.join(60)
    assert not thread.is_alive()


def test_a_request_is_served_and_forgotten():
    """The response is the result of the work, and no file is left."""
    with uploader(lambda handler, arguments: {"half": arguments["number"] / 2}):
        assert requests.send(HALF) == {"result": {"half": 10}}
    assert not list(requests.REQUESTS.iterdir())


@pytest.mark.parametrize("result", [{}, [], None, False, 0, ""])
def test_every_result_is_a_result(monkeypatch, result):
    """The work is done once, also where its result is empty; only where nobody responds the caller does
    it."""
    calls = []

    def work(handler, arguments):
        calls.append(handler)
        return result

    @requests.in_mlflow
    def half(client, number: int) -> Any:
        """Never run: `perform` is replaced."""

    monkeypatch.setattr(requests, "perform", work)
    with uploader(work):
        assert half(1) == result
    assert len(calls) == 1
    monkeypatch.setattr(requests, "START_LIMIT", 0.0)
    assert half(number=2) == result
    assert [name.rpartition(":")[2] for name in calls] == ["half"] * 2


def test_work_that_fails_gives_no_response(capsys):
    """Where the work fails there is no response, so that the caller does it and shows the error; the log has
    it, too."""
    with uploader(lambda handler, arguments: 1 / 0):
        assert requests.send(HALF) is None
    assert "ZeroDivisionError" in capsys.readouterr().out


def test_an_uploader_for_another_mlflow_does_not_do_the_work():
    """A request is only for the uploader that works for the same tracking server."""
    done: list[str] = []
    with uploader(lambda handler, arguments: done.append(handler), uri="elsewhere"):
        assert requests.send(HALF) is None
    assert not done


def test_without_an_uploader_nobody_waits_for_ever(monkeypatch):
    """Where no process takes the lock in START_LIMIT seconds the request is withdrawn."""
    monkeypatch.setattr(requests, "START_LIMIT", 0.2)
    assert requests.send(HALF) is None
    assert not list(requests.REQUESTS.iterdir())


def test_a_slow_uploader_is_waited_for(monkeypatch):
    """As long as an uploader runs, a response may take longer than it would be given to start."""
    monkeypatch.setattr(requests, "START_LIMIT", 0.3)
    monkeypatch.setattr(requests, "CHECK_INTERVAL", 0.05)
    holding = threading.Event()

    def run() -> None:
        with locks.hold(home.RECORDS / "uploader.lock"):
            holding.set()
            time.sleep(1.5)
            requests.serve(lambda handler, arguments: "late", "here")

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert holding.wait(60)
    assert requests.send(HALF) == {"result": "late"}
    thread.join(60)


def test_an_uploader_that_cannot_work_responds():
    """Without a tracking server the uploader responds at once that it cannot do the work."""
    with uploader(None):
        assert requests.send(HALF) is None


def test_a_request_that_nobody_waits_for_is_dropped():
    """What a killed command has asked for is not done later."""
    requests.REQUESTS.mkdir(parents=True)
    (requests.REQUESTS / "1.json").write_text('{"function": "promote", "arguments": {}, "uri": "here"}')
    done: list[str] = []
    work: Callable[..., None] = lambda handler, arguments: done.append(handler)  # noqa: E731
    assert requests.serve(work, "here")
    assert not done
    assert not list(requests.REQUESTS.glob("*.json"))
