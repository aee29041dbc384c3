"""DVC as flows use it: the graph, and commands in process groups of their own that end with the flow (`dvc_process` does it)."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any

from darkroom.core.errors import ParamsError, WorkspaceError
from pipelines import dvc_runner

PATIENCE = (5.0, 600.0)  # seconds before the first retry of what may pass by itself, doubled each time, and at most
CANCELLED = "it was cancelled, and its stages were ended"
KEPT = 12  # lines of an output that are kept for a message
UNCHANGED = ("didn't change, skipping", "is cached - skipping run, checking out outputs")
ADVICE = (
    "To track the changes with git",
    "git add ",
    "To enable auto staging",
    "dvc config core.autostage",
    "Use `dvc push` to send",
)


@dataclass(frozen=True)
class Stage:
    """A stage of dvc.yaml."""

    above: list[str]  # the stages whose outputs it reads
    changed: bool  # it may have to run
    why: list[str]  # what has changed of its own, in DVC's words
    outs: list[str]  # as dvc.yaml names them
    reports: list[str]  # those of them that DVC leaves to git


@dataclass
class Ended:
    """How a command of DVC has ended."""

    code: int = 0
    lines: list[str] = field(default_factory=list)  # the last ones
    skipped: str = ""  # why DVC did not run the stage
    late: bool = False  # it took longer than it may

    @property
    def retryable(self) -> bool:
        """Tell whether the same may work later."""
        return self.code == dvc_runner.EX_TEMPFAIL

    @property
    def words(self) -> str:
        """Return what was said last of the error."""
        error = next((i for i, line in enumerate(self.lines) if line.startswith("error:")), 0)
        return "\n".join(line for line in self.lines[error:] if not line.startswith("ERROR: failed to reproduce"))


def pause(attempt: int) -> float:
    """Return the seconds after a failed attempt, the first one being 0, before the next."""
    return min(PATIENCE[0] * 2**attempt, PATIENCE[1])


class StoppedError(Exception):
    """The stages were ended before they had come to their end."""


class Stages:
    """DVC in one folder, in a process that lasts as long as the block; whatever it runs ends with the block at the latest."""

    def __init__(self, folder: Path = Path(), environment: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.environment = os.environ | (environment or {}) | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}", "PYTHONUNBUFFERED": "1",
        }  # fmt: skip
        source = (folder / "src").resolve()
        if source != Path("src").resolve():  # the code that lies there, not the code that is installed
            self.environment["PYTHONPATH"] = os.pathsep.join([str(source), *filter(None, [os.environ.get("PYTHONPATH")])])
        self.numbers = count()
        self.answers: dict[int, queue.SimpleQueue[dict[str, Any] | None]] = {}
        self.groups: dict[int, int] = {}
        self.lock = threading.Lock()
        self.stopped, self.gone = threading.Event(), threading.Event()

    def __enter__(self) -> Stages:
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(Path(dvc_runner.__file__).resolve())], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            cwd=self.folder, env=self.environment, start_new_session=True,
        )  # fmt: skip
        self.reader = threading.Thread(target=self._read, name="stages", daemon=True)
        self.reader.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.end()

    def end(self) -> None:
        """End whatever runs, and wait until it has ended."""
        self.stopped.set()
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.process.wait()
        self.reader.join()

    @contextlib.contextmanager
    def ending(self) -> Iterator[None]:
        """End all stages as soon as the block is left by an exception, so that nobody waits for them."""
        try:
            yield
        except BaseException:
            self.end()
            raise

    def command(self, *words: str) -> str:
        """Return what a command of the package says in this folder; a DarkroomError where it refuses."""
        done = subprocess.run(
            [sys.executable, "-m", "darkroom", *words], cwd=self.folder, env=self.environment, capture_output=True, text=True
        )
        if done.returncode:
            problem, _, remedy = done.stderr.strip().removeprefix("error: ").partition("\n  remedy: ")
            raise ParamsError(problem or f"exit code {done.returncode}", remedy or f"`darkroom {words[0]}` says more")
        return done.stdout.strip()

    def graph(self, targets: list[str], force: bool = False, retries: int = 0) -> dict[str, Stage]:
        """Return the stages that the targets need, each after those it waits for.

        While another DVC holds files of the workspace it is tried again. WorkspaceError where DVC cannot tell.
        """
        for attempt in range(retries + 1):
            ended = self._ask({"ask": "graph", "targets": targets, "force": force}, lambda _: None, None)
            try:
                answer = json.loads(ended.lines[-1])
            except (IndexError, ValueError):
                raise WorkspaceError("DVC cannot read the graph: " + "\n".join(ended.lines), "`dvc status` says more") from None
            if "stages" in answer:
                return {name: Stage(**about) for name, about in answer["stages"].items()}
            if not ended.retryable or attempt == retries:
                break
            print(f"{answer['error']}\ntries again in {pause(attempt):.0f} s")
            self.stopped.wait(pause(attempt))
        raise WorkspaceError(answer["error"], "`dvc stage list` names the stages, `dvc status` looks at them")

    def dvc(
        self, arguments: list[str], environment: dict[str, str], on_line: Callable[[str], None], limit: float | None = None
    ) -> Ended:
        """Run a command of DVC, for `limit` seconds at most, and hand on what it writes, line by line.

        Raises StoppedError where the block ends before the command does.
        """
        return self._ask({"ask": "dvc", "arguments": arguments, "environment": environment}, on_line, limit)

    def _ask(self, request: dict[str, Any], on_line: Callable[[str], None], limit: float | None) -> Ended:
        ended, number = Ended(), next(self.numbers)
        until = time.monotonic() + limit if limit else None
        answers = self.answers[number] = queue.SimpleQueue()
        if self.gone.is_set():
            raise self._over()
        self._say(request | {"id": number})
        while True:
            try:
                answer = answers.get(timeout=None if until is None or ended.late else max(0.0, until - time.monotonic()))
            except queue.Empty:
                ended.late = True
                self._say({"ask": "end", "id": number})
                continue
            if answer is None:
                raise self._over()
            if "code" in answer:
                ended.code = answer["code"]
                return ended
            line = answer.get("line", "")
            if line and not line.lstrip().startswith(ADVICE):
                ended.lines = [*ended.lines[1 - KEPT :], line]
                ended.skipped = line if line.endswith(UNCHANGED) else ended.skipped
                on_line(line)

    def _say(self, content: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        try:
            with self.lock:
                self.process.stdin.write(json.dumps(content).encode() + b"\n")
                self.process.stdin.flush()
        except (OSError, ValueError) as error:
            raise self._over() from error

    def _over(self) -> Exception:
        """Return why nothing can be run any more."""
        if self.stopped.is_set():
            return StoppedError(CANCELLED)
        return WorkspaceError("the process that runs DVC was killed", "look whether memory was short, then run it again")

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            answer = json.loads(line)
            if "group" in answer:
                self.groups[answer["id"]] = answer["group"]
            elif not (self.stopped.is_set() and "code" in answer):  # it was ended: how does not matter
                self.answers[answer["id"]].put(answer)
            if "code" in answer:
                del self.groups[answer["id"]]
        self.gone.set()
        for group in self.groups.values():  # it was killed: nobody else ends what it has started
            with contextlib.suppress(OSError):
                os.killpg(group, signal.SIGKILL)
        for answers in list(self.answers.values()):
            answers.put(None)
