"""PostgreSQL for tests, where it is installed."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)
AS_POSTGRES = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def database(name: str) -> Iterator[str]:
    """Yield user, host, port and name of an empty database, as they stand in an address: `darkroom@127.0.0.1:5432/name`."""
    port = free_port()
    with tempfile.TemporaryDirectory(dir="/tmp") as place:  # where postgres may go, who is not who runs the tests
        os.chmod(place, 0o777)
        data = f"{place}/data"

        def run(*command: str) -> None:
            done = subprocess.run([*AS_POSTGRES, *command], capture_output=True, text=True, cwd="/")
            assert done.returncode == 0, done.stdout + done.stderr

        run(f"{PROGRAMS}/initdb", "-D", data, "-A", "trust", "-U", "darkroom")
        # without a pipe: the server that it leaves behind would hold it open
        options = f"-p {port} -c listen_addresses=127.0.0.1 -k {place}"
        start = [f"{PROGRAMS}/pg_ctl", "-D", data, "-w", "-l", f"{place}/log", "-o", options]
        subprocess.run([*AS_POSTGRES, *start, "start"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")
        try:
            run(f"{PROGRAMS}/createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "darkroom", name)
            yield f"darkroom@127.0.0.1:{port}/{name}"
        finally:
            run(f"{PROGRAMS}/pg_ctl", "-D", data, "-m", "immediate", "stop")
