"""Limits for servers: one deadline for a whole response, however it comes, and a lowest speed for a download.

A timeout of urllib's is of each read alone: a server that sends a byte of a header now and then is waited for without end.
A download may take long, but not stand still.
"""

from __future__ import annotations

import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from typing import TypeVar

MOST = 2**24  # bytes of a response; a server's answers are far smaller
SILENCE = 30.0  # seconds in which a server that sends a file says something
SLOWEST = 1024.0  # bytes per second of a download, on average over each `SILENCE`
Result = TypeVar("Result")


def within(seconds: float, call: Callable[[], Result]) -> Result:
    """Return what a call returns, or raise what it raises; TimeoutError where it has not ended in so many seconds.

    A call that is late is left to end by itself in a daemon thread, so it must do nothing that matters afterwards.
    """
    results: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:  # raised by who waits
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError(f"no whole response in {seconds:g} s")
    return results[0]


def fetch(request: str | urllib.request.Request, seconds: float) -> bytes:
    """Return the body of a response of HTTP, at most `MOST` bytes of it.

    Raises urllib.error.HTTPError for a status that is an error, other kinds of OSError where nothing answers, TimeoutError among
    them, and http.client.HTTPException where what answers is no HTTP.
    """

    def call() -> bytes:
        with urllib.request.urlopen(request, timeout=seconds) as response:
            content: bytes = response.read(MOST)
            return content

    return within(seconds, call)


def blocks(response: HTTPResponse, size: int) -> Iterator[bytes]:
    """Yield what a response has in blocks of at most `size` bytes; TimeoutError where they come more slowly than `SLOWEST`."""
    since, received = time.monotonic(), 0
    while block := response.read1(size):
        yield block
        received += len(block)
        if (seconds := time.monotonic() - since) > SILENCE:
            if received < SLOWEST * seconds:
                raise TimeoutError(f"only {received:,} bytes came in {seconds:.0f} s")
            since, received = time.monotonic(), 0


@contextmanager
def no_silence() -> Iterator[None]:
    """Let connections that a library opens without a timeout end where the server says nothing for `SILENCE` seconds."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
