"""The process that has DVC in memory: it says what a flow asks about the graph, and forks a process for each stage that runs.

A flow talks to it on a pipe, a JSON object a line (`pipelines.stages` is the other side). DVC is imported once, so that a stage
costs no more than within `dvc repro`. Each stage leads a process group of its own. When the flow has gone, however it ended,
the pipe is closed: then all groups are ended, politely first, and so is this process.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import selectors
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

GRACE = 5.0  # seconds between asking the processes of a stage to end and ending them
EX_TEMPFAIL = 75  # exit status of what may work later (EX_TEMPFAIL of sysexits.h), a stage's and that of the process that ran it
IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # it ends with the flow, after it has ended the stages
BLOCK = 1 << 16
NAMED = 4  # changes that are named of a stage
_STATUS = re.compile(r"exited with (\d+)")


class Job:
    """A forked process and what it writes."""

    def __init__(self, number: int, pid: int, output: int) -> None:
        self.number, self.pid, self.output = number, pid, output
        self.pending = b""
        self.ending = 0.0  # when it was asked to end

    def lines(self, last: bool = False) -> list[str]:
        """Return the lines that were written since; with `last` also one without an end."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.output, BLOCK):
                self.pending += data
        *whole, self.pending = re.split(rb"\r\n|\n|\r", self.pending)
        if last and self.pending:
            whole, self.pending = [*whole, self.pending], b""
        return [line.decode(errors="replace").rstrip() for line in whole]

    def end(self) -> None:
        """Ask the whole group to end, or end it where it was asked long enough ago."""
        if not self.ending:
            self._kill(signal.SIGTERM)
            self.ending = time.monotonic()
        elif time.monotonic() - self.ending > GRACE:
            self._kill(signal.SIGKILL)

    def _kill(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def reap(self) -> int | None:
        """Return the exit code of the process once it has ended, and end what it left of its group."""
        if not os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return None
        self._kill(signal.SIGKILL)  # before it is reaped, so that the group is still this one
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def serve() -> None:
    """Do what is asked on standard input until it is closed."""
    from dvc import cli  # noqa: F401
    from dvc.commands import repro  # noqa: F401
    from dvc.repo import Repo, reproduce, status  # noqa: F401
    from dvc.stage import run  # noqa: F401

    wake, woken = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    os.set_blocking(0, False)
    jobs: dict[int, Job] = {}
    waiting = selectors.DefaultSelector()
    waiting.register(0, selectors.EVENT_READ)
    waiting.register(wake, selectors.EVENT_READ)
    asked, closed = b"", False
    while jobs or not closed:
        ready = {key.fd for key, _ in waiting.select(1.0 if any(job.ending for job in jobs.values()) else None)}
        if wake in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(wake, BLOCK)
        if 0 in ready:
            data = os.read(0, BLOCK)
            if not data:
                closed = True
                waiting.unregister(0)
            asked += data
            *whole, asked = asked.split(b"\n")
            for line in whole:
                request = json.loads(line)
                if request["ask"] == "end":
                    if request["id"] in jobs:
                        jobs[request["id"]].end()
                    continue
                job = _fork(request)
                jobs[job.number] = job
                _say(id=job.number, group=job.pid)
                waiting.register(job.output, selectors.EVENT_READ)
        for job in list(jobs.values()):
            if closed or job.ending:
                job.end()
            code = job.reap()
            for text in job.lines(last=code is not None):
                _say(id=job.number, line=text)
            if code is not None:
                waiting.unregister(job.output)
                os.close(job.output)
                del jobs[job.number]
                _say(id=job.number, code=code)


def _say(**content: Any) -> None:
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(json.dumps(content) + "\n")
        sys.stdout.flush()


def _fork(request: dict[str, Any]) -> Job:
    output, written = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, *IGNORED):
                signal.signal(number, signal.SIG_DFL)
            os.setsid()
            os.dup2(written, 1)
            os.dup2(written, 2)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.closerange(3, max(output, written) + 1)
            sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
            code = _do(request)
            sys.stdout.flush()
            sys.stderr.flush()
        except BaseException as error:
            code = 1
            with contextlib.suppress(OSError):
                os.write(2, f"{error!r}\n".encode())
        os._exit(code)
    os.close(written)
    os.set_blocking(output, False)
    return Job(request["id"], pid, output)


def _do(request: dict[str, Any]) -> int:
    if request["ask"] == "graph":
        answer = graph(request["targets"], request["force"])
        print(json.dumps(answer))
        return EX_TEMPFAIL if answer.pop("locked", False) else 2 * ("error" in answer)
    arguments: list[str] = request["arguments"]
    os.environ.update(request["environment"])
    sys.argv = ["dvc", *arguments]  # what DVC writes into its lock file
    from dvc.cli import main

    seen = _Errors()
    logging.getLogger("dvc").addHandler(seen)
    unblock(Path(".dvc/tmp/rwlock"))
    code = main(arguments)
    return EX_TEMPFAIL if code and seen.retryable else code


class _Errors(logging.Handler):
    """Sees whether what DVC reports may pass by itself."""

    retryable = False

    def emit(self, record: logging.LogRecord) -> None:
        from dvc.lock import LockError

        error = record.exc_info[1] if record.exc_info else None
        while error is not None:
            status = _STATUS.search(str(error))
            if isinstance(error, (LockError, ConnectionError, TimeoutError)) or (status and int(status[1]) == EX_TEMPFAIL):
                self.retryable = True
            error = error.__cause__ or error.__context__


def unblock(path: Path) -> None:
    """Take out of DVC's file of locks what a process left there that has gone, whose number another process may have now."""
    import psutil
    from dvc.lock import LockError, make_lock

    if not path.exists():
        return
    guard = make_lock(str(path.with_suffix(".lock")), tmp_dir=str(path.parent))
    try:
        guard.lock()
    except LockError:
        return
    try:
        text, written = path.read_text(encoding="utf-8"), path.stat().st_mtime

        def holds(info: dict[str, Any]) -> bool:
            try:
                return psutil.Process(int(info["pid"])).create_time() <= written + 1
            except psutil.NoSuchProcess:
                return False

        try:
            content = json.loads(text)
            kept = {
                "write": {key: info for key, info in content.get("write", {}).items() if holds(info)},
                "read": {key: left for key, infos in content.get("read", {}).items() if (left := [i for i in infos if holds(i)])},
            }
        except (ValueError, KeyError, TypeError, AttributeError):
            kept, content = {}, None  # its writer was killed: nobody can use it as it is
        if kept != content:
            path.write_text(json.dumps(kept), encoding="utf-8")
    finally:
        guard.unlock()


def graph(targets: list[str], force: bool) -> dict[str, Any]:
    """Return the stages that the targets need, each after those it waits for, and which of them may have to run.

    Without targets they are those of the folder's own dvc.yaml, as for `dvc repro`. A stage may have to run that DVC reports as
    changed, and so may all that come after it.
    """
    import networkx as nx
    from dvc.exceptions import DvcException
    from dvc.lock import LockError
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            edges = repo.index.graph
            wanted = {stage for target in targets or ["dvc.yaml"] for stage in repo.stage.collect(target)}
            needed = wanted.union(*(nx.descendants(edges, stage) for stage in wanted))
            whole = edges.subgraph(needed)
            first = sorted(whole, key=lambda stage: stage.addressing)
            order = list(nx.lexicographical_topological_sort(whole.reverse(), key=first.index))
            reported: dict[str, Any] = repo.status(targets=[stage.addressing for stage in first]) if first and not force else {}
            stages: dict[str, Any] = {}
            for stage in order:
                name, above = stage.addressing, sorted(item.addressing for item in whole.successors(stage))
                stages[name] = {
                    "above": above,
                    "changed": force or name in reported or any(stages[item]["changed"] for item in above),
                    "why": _why(stage, reported.get(name, [])),
                    "outs": [out.def_path for out in stage.outs],
                    "reports": [out.def_path for out in stage.outs if not out.use_cache],
                }
            return {"stages": stages}
    except DvcException as error:
        return {"error": str(error), "locked": isinstance(error, LockError)}


def _why(stage: Any, status: list[Any]) -> list[str]:
    """Return what DVC reports of a stage, in words."""
    if status and not any(out.hash_info for out in stage.outs):
        return ["it has not run here yet"]
    inputs: list[str] = []
    others: list[str] = []
    for item in status:
        for what, changed in item.items() if isinstance(item, dict) else [(item, None)]:
            if not isinstance(changed, dict):
                others.append(str(what))
            for path, how in changed.items() if isinstance(changed, dict) else []:
                words = f"{path} {', '.join(how) if isinstance(how, dict) else how}"
                (others if what == "changed outs" else inputs).append(words)
    found = inputs or others  # an output is of interest where nothing that it is made from has changed
    return [*found[:NAMED], *([f"and {len(found) - NAMED} more"] if len(found) > NAMED else [])]


def main() -> NoReturn:
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    serve()
    sys.exit(0)


if __name__ == "__main__":
    main()
