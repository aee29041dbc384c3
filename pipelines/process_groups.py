"""Commands that run in process groups of their own and end with the flow run that started them."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import IO

from darkroom.core.errors import EX_TEMPFAIL
from pipelines import process_watcher

TAIL = 20  # lines of output that a result keeps
STOPPED = "cancelled, its processes were ended"


class StoppedError(Exception):
    """The flow run was cancelled and its processes were ended."""


@dataclass(frozen=True)
class CommandResult:
    """How a command ended."""

    returncode: int
    output: Sequence[str]  # the last lines that were passed on
    stdout: str = ""  # where it was captured
    timed_out: bool = False
    killed: bool = False  # it ran a stage, which SIGKILL has ended

    @property
    def retryable(self) -> bool:
        """Tell whether the same command may work later."""
        return self.returncode == EX_TEMPFAIL

    @property
    def error(self) -> str:
        """Return the output from the first error message on."""
        first = next((i for i, line in enumerate(self.output) if line.startswith("error:")), 0)
        return "\n".join(line for line in self.output[first:] if not line.startswith("ERROR: failed to reproduce"))


class ProcessGroups:
    """Runs commands, each in a process group of its own, from any thread. All groups end with the block.

    A watcher ends them where this process is killed, and then runs the command `after_death`.
    """

    def __init__(self, after_death: Sequence[str] = ()) -> None:
        self.after_death = after_death
        self.stopped = threading.Event()
        self._groups: set[int] = set()
        self._lock = threading.Lock()

    def __enter__(self) -> ProcessGroups:
        command = [sys.executable, "-I", "-S", process_watcher.__file__, *self.after_death]
        self._watcher = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True, text=True, bufsize=1)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
        self._tell_watcher("end")
        self._watcher.communicate()

    def stop(self) -> None:
        """End all process groups, and start no other one."""
        with self._lock:
            self.stopped.set()
            groups = list(self._groups)
        process_watcher.terminate(groups)

    def run(
        self,
        command: Sequence[str],
        on_line: Callable[[str], object],
        folder: Path = Path(),
        environment: Mapping[str, str] | None = None,
        limit: float | None = None,
        capture_stdout: bool = False,
    ) -> CommandResult:
        """Run a command for at most `limit` seconds, and pass each line that it writes to `on_line`.

        With `capture_stdout` these are the lines on stderr. Raises StoppedError where `stop` was called.
        """
        with tempfile.TemporaryFile("w+", encoding="utf-8") as captured:
            process = self._start(command, folder, environment, captured if capture_stdout else None)
            result = self._follow(process, on_line, limit)
            captured.seek(0)
            return replace(result, stdout=captured.read())

    def _start(
        self, command: Sequence[str], folder: Path, environment: Mapping[str, str] | None, stdout: IO[str] | None
    ) -> subprocess.Popen[str]:
        with self._lock:
            if self.stopped.is_set():
                raise StoppedError(STOPPED)
            process = subprocess.Popen(
                command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=stdout or subprocess.PIPE,
                stderr=subprocess.PIPE if stdout else subprocess.STDOUT, encoding="utf-8", errors="replace", start_new_session=True,
            )  # fmt: skip
            self._groups.add(process.pid)
            self._tell_watcher(f"+{process.pid}")
        return process

    def _follow(self, process: subprocess.Popen[str], on_line: Callable[[str], object], limit: float | None) -> CommandResult:
        timed_out, lines = threading.Event(), deque[str](maxlen=TAIL)
        stream = process.stdout or process.stderr
        assert stream is not None

        def end_late() -> None:
            timed_out.set()
            process_watcher.terminate([process.pid])

        def reap() -> None:
            process.wait()
            process_watcher.send(process.pid, signal.SIGKILL)  # a process left behind would hold the pipe open

        timer, reaper = threading.Timer(limit or 0, end_late), threading.Thread(target=reap, daemon=True)
        reaper.start()
        if limit:
            timer.start()
        try:
            with stream:
                for line in map(str.rstrip, stream):
                    if line:
                        lines.append(line)
                        on_line(line)
        except BaseException:
            process_watcher.terminate([process.pid])
            raise
        finally:
            timer.cancel()
            reaper.join()
            with self._lock:
                self._groups.discard(process.pid)
                self._tell_watcher(f"-{process.pid}")
        if self.stopped.is_set():
            raise StoppedError(STOPPED)
        return CommandResult(process.returncode, list(lines), timed_out=timed_out.is_set())

    def _tell_watcher(self, line: str) -> None:
        assert self._watcher.stdin is not None
        with contextlib.suppress(OSError, ValueError):  # without its watcher a run goes on
            self._watcher.stdin.write(f"{line}\n")
