"""Servers that take connections and answer nothing, only `/health`, or a few bytes at a time for ever."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator


def answer(connection: socket.socket, kind: str) -> None:
    """Answer a request as a server of a kind does; the connection is then left open."""
    with contextlib.suppress(OSError):
        request = connection.recv(4096)
        if kind == "only health" and b"/health" in request:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK")
        if kind == "answers":
            connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        if kind in ("drips", "drips a body"):
            connection.sendall(b"HTTP/1.1 200 OK\r\n" + (b"Content-Length: 100000\r\n\r\n" if kind == "drips a body" else b""))
            for number in range(200):
                connection.sendall(b"X-%d: drip\r\n" % number)
                time.sleep(0.05)


@contextlib.contextmanager
def server(kind: str) -> Iterator[str]:
    """Yield the address, host and port, of a server of a kind."""
    connections = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connections.append(listening.accept()[0])
                    threading.Thread(target=answer, args=(connections[-1], kind), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        for connection in connections:
            connection.close()
