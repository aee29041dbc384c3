"""A server has one deadline for a whole response, and a download a lowest speed."""

from __future__ import annotations

import socket
import time
import urllib.request

import pytest

from darkroom.core import deadline
from darkroom.core.os_errors import is_retryable
from darkroom.preflight import machine
from tests.servers import server


@pytest.mark.parametrize("kind", ["silent", "drips", "drips a body"])
def test_a_response_has_one_deadline(kind, monkeypatch):
    """However a server sends its response, it is whole in time, or an error that may pass; `darkroom doctor` names it."""
    began = time.monotonic()
    with server(kind) as address:
        with pytest.raises(OSError, match=r"time|whole") as caught:  # TimeoutError, or urllib's error of one
            deadline.fetch(f"http://{address}/", 0.2)
        monkeypatch.setattr(machine, "TIMEOUT", 0.2)
        finding = machine._response("MLflow", f"http://{address}", "/api", {}, "start it", "log in")
    assert is_retryable(caught.value)
    assert finding.state == machine.FAULT
    assert "does not respond" in finding.text
    assert time.monotonic() - began < 45  # the server would go on for ever


def test_what_a_call_raises_or_returns_is_handed_on():
    """A deadline changes nothing of a call that is in time."""
    assert deadline.within(5, lambda: 3) == 3
    with pytest.raises(KeyError):
        deadline.within(5, lambda: {}["x"])


def test_a_download_may_be_long_and_not_stand_still(monkeypatch):
    """Bytes that come too slowly end a download with an error that may pass; those that come fast enough are all there."""
    monkeypatch.setattr(deadline, "SILENCE", 0.2)

    def download(address: str) -> bytes:
        received = b""
        with urllib.request.urlopen(f"http://{address}/", timeout=5) as response:
            for block in deadline.blocks(response, 100):
                received += block
                if len(received) > 100:
                    break
        return received

    with server("drips a body") as address:
        monkeypatch.setattr(deadline, "SLOWEST", 1e6)
        with pytest.raises(TimeoutError, match=r"only .* bytes came") as caught:
            download(address)
        assert is_retryable(caught.value)
        monkeypatch.setattr(deadline, "SLOWEST", 1.0)
        assert download(address).startswith(b"X-0: drip")


def test_a_library_without_a_timeout_does_not_wait_for_a_silent_server(monkeypatch):
    """Connections that torch's downloads open end, and those that others open afterwards have no limit."""
    monkeypatch.setattr(deadline, "SILENCE", 0.2)
    with server("silent") as address, pytest.raises(OSError, match="timed out"), deadline.no_silence():
        urllib.request.urlopen(f"http://{address}/")
    assert socket.getdefaulttimeout() is None
