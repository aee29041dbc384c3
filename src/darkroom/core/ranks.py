"""Several processes that do one stage: by which variables a process knows its place, and how they begin and end together.

A rank is the number of a process, from 0. Its variables are those of torchrun (RANK, WORLD_SIZE), which may start the processes
too, also on several machines. Here they are started by the stage itself: each is the same command. Where one of them ends with an
error, the others are ended, and its error is that of the stage. A process ends, too, when the one that started it is gone:
its standard input is a pipe from there.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from darkroom.core import os_errors, platforms, shortage, strict_json
from darkroom.core.errors import EX_TEMPFAIL, MISTAKE, DarkroomError, masked

FOLDER = "DARKROOM_RANKS"  # the variable of the folder that the processes of one stage share
POLL = 0.05  # seconds between two looks at the processes
ECHO = 2.0  # seconds in which others notice by themselves that one has ended, so that the first error is known
GRACE = 5.0  # seconds between SIGTERM and SIGKILL


class PeerLostError(DarkroomError):
    """Another process of the stage does not answer: the error to tell is that one's."""


class Finished(BaseException):
    """This process has done its part; rank 0 does the rest alone."""


def rank() -> int:
    """Return the number of this process, 0 where there is one alone."""
    return int(os.environ.get("RANK", "0")) if size() > 1 else 0


def size() -> int:
    """Return the number of processes."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def folder() -> Path | None:
    """Return the folder that the processes share which `launch` has started; None in others."""
    path = os.environ.get(FOLDER)
    return Path(path) if path else None


@contextmanager
def member() -> Iterator[None]:
    """Do a block as one of several processes, of which rank 0 alone prints results.

    In a process that `launch` has started, an error goes there, and the process ends with its exit code.
    """
    shared = folder()
    if shared:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that has started this one ends it
        threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    try:
        if rank():
            with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
                yield
        else:
            yield
    except Finished:
        pass
    except Exception as error:
        known = shortage.explain(error) or error
        if isinstance(known, OSError):
            known = DarkroomError(masked(str(known)), os_errors.remedy_of(known), os_errors.is_retryable(known))
        if not shared or not isinstance(known, DarkroomError):
            raise
        _write_error(shared, known)
        raise SystemExit(known.code) from error


def _end_with_parent() -> None:
    with suppress(OSError):
        os.read(0, 1)  # returns when the other end of the pipe is closed
    os._exit(EX_TEMPFAIL)


def _write_error(shared: Path, error: DarkroomError) -> None:
    values = {
        "problem": error.problem,
        "remedy": error.remedy,
        "retryable": error.retryable,
        "peer": isinstance(error, PeerLostError),
    }
    with suppress(OSError):
        (shared / f"error-{rank()}.json").write_text(json.dumps(values), encoding="utf-8")


def launch(command: Sequence[str], count: int) -> int:
    """Run a command in `count` processes and wait for them; return their exit code, 0 where all ended well.

    Rank 0 has the output of this process. Raises the DarkroomError of the process that failed first, after all others have ended.
    """
    previous = signal.signal(signal.SIGTERM, _stop) if threading.current_thread() is threading.main_thread() else None
    with tempfile.TemporaryDirectory(prefix="darkroom-ranks-") as name:
        processes: list[subprocess.Popen[bytes]] = []
        try:
            for number in range(count):
                processes.append(_start(command, number, count, Path(name)))
            failed = _wait(processes, Path(name))
        finally:
            _end(processes)
            if previous is not None:
                signal.signal(signal.SIGTERM, previous)
        return 0 if failed is None else _raise_error(processes, failed, Path(name))


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def _start(command: Sequence[str], number: int, count: int, shared: Path) -> subprocess.Popen[bytes]:
    environment = {
        "GLOO_SOCKET_IFNAME": platforms.LOOPBACK, **os.environ, FOLDER: str(shared), "RANK": str(number), "LOCAL_RANK": str(number),
        "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count),
    }  # fmt: skip
    if number == 0:
        return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE)
    with _log(shared, number).open("wb") as log:
        return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=log)


def _wait(processes: Sequence[subprocess.Popen[bytes]], shared: Path) -> int | None:
    """Wait until all have ended or one has failed; return the number of the one whose error is the cause, None without one."""
    while not any(process.poll() for process in processes):
        if all(process.poll() == 0 for process in processes):
            return None
        time.sleep(POLL)
    order: list[int] = []
    deadline = time.monotonic() + ECHO
    while True:
        order += [number for number, process in enumerate(processes) if process.poll() and number not in order]
        causes = [number for number in order if not _error(shared, number).get("peer")]
        if causes or time.monotonic() > deadline:
            return (causes or order)[0]
        time.sleep(POLL)


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End the processes that still run, and wait until they have."""
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + GRACE
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdin:
            process.stdin.close()


def _raise_error(processes: Sequence[subprocess.Popen[bytes]], number: int, shared: Path) -> int:
    """Raise the error of a process, or print what it has written and return its exit code."""
    code = processes[number].returncode
    who = f"process {number + 1} of {len(processes)}"
    values = _error(shared, number)
    if values:
        raise DarkroomError(f"{who}: {values['problem']}" if number else values["problem"], values["remedy"], values["retryable"])
    if code < 0:
        with suppress(ValueError):
            raise DarkroomError(
                f"{who} was ended by {signal.Signals(-code).name}, which ended the others",
                "run it again, it goes on from the last epoch; if memory ran out, as SIGKILL may mean, lower `compute.processes`",
                retryable=True,
            )
    if number:
        sys.stderr.write(f"{who} ended with exit code {code}\n{_log(shared, number).read_text(errors='replace')}")
    return code if code > 0 else MISTAKE


def _log(shared: Path, number: int) -> Path:
    return shared / f"stderr-{number}.txt"


def _error(shared: Path, number: int) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        content: dict[str, Any] = strict_json.loads((shared / f"error-{number}.json").read_text(encoding="utf-8"))
        return content
    return {}
