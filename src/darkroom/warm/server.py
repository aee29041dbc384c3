"""The side of the process that has torch in memory: it forks a process for every command, watches it, and ends what it leaves."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import importlib
import io
import json
import os
import select
import signal
import socket
import struct
import sys
import threading
import time
from pathlib import Path
from typing import Any

from darkroom.warm.command import ENDED, STARTED, STARTING, patience, receive

GRACE = 5.0  # seconds in which a stage must end whose command has gone
TICK = 1.0
QUIET = 3.0  # seconds after a stage has started before it imports more, so that stages do not start slower for it
FIRST = ("numpy", "pydantic", "yaml", "torch")  # before it answers
LATER = ("torchvision", "safetensors.torch", "onnxruntime")  # while the first stage works, or no stage needs it yet
PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>


def serve(address: Path, inode: int, listener: socket.socket) -> None:
    """Fork a process for every command that comes, until there is none for a while, or commands go elsewhere."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)  # whoever started this may have ignored them
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # it would start a thread and open a database, which must not be forked
    for name in FIRST:
        importlib.import_module(name)
    later = list(LATER)
    working: list[_Stage] = []
    used, busy = time.monotonic(), False  # when a command last came or ended, and whether one ever came
    while True:
        waiting = select.poll()
        waiting.register(listener, select.POLLIN)
        for stage in working:
            waiting.register(stage.ended, select.POLLIN)
            if not stage.left:
                waiting.register(stage.connection, select.POLLRDHUP)  # not what is said on it, which is for the stage
        ready = {number for number, _ in waiting.poll(1000 * TICK)}
        if listener.fileno() in ready:
            used, busy = time.monotonic(), True
            with contextlib.suppress(OSError):  # it has gone again, or no process can be had: the command runs itself
                working.append(_fork(listener, working))
        elif later and (not busy or time.monotonic() - used > QUIET):
            _import(later.pop(0))
        for stage in list(working):
            if stage.ended in ready:
                stage.finish()
                working.remove(stage)
                used = time.monotonic()
            elif stage.connection.fileno() in ready or (stage.left and time.monotonic() - stage.left > GRACE):
                stage.stop()
        if not working and (time.monotonic() - used > patience() or not _is_ours(address, inode)):
            break
    if _is_ours(address, inode):
        address.unlink()


class _Stage:
    """The process of a command, seen from the server."""

    def __init__(self, pid: int, connection: socket.socket) -> None:
        self.pid, self.connection = pid, connection
        self.ended = os.pidfd_open(pid)
        self.left = 0.0  # when the command has gone

    def stop(self) -> None:
        """End the process and its own ones because the command has gone: first politely, then not."""
        self._kill(signal.SIGKILL if self.left else signal.SIGTERM)
        self._kill(signal.SIGCONT)
        self.left = self.left or time.monotonic()

    def finish(self) -> None:
        """Tell the command how its process has ended, and end what that one left behind."""
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        self._kill(signal.SIGKILL)  # before it is reaped, so that the group is still this one
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        with contextlib.suppress(OSError):
            self.connection.sendall(ENDED + struct.pack("!i", code))
        self.connection.close()
        os.close(self.ended)

    def _kill(self, number: int) -> None:
        with contextlib.suppress(OSError):
            os.killpg(self.pid, number)


def _fork(listener: socket.socket, working: list[_Stage]) -> _Stage:
    connection = listener.accept()[0]
    server = os.getpid()
    pid = os.fork()
    if pid == 0:
        listener.close()
        for stage in working:
            stage.connection.close()
            os.close(stage.ended)
        _child(connection, server)
    with contextlib.suppress(OSError):
        os.setpgid(pid, pid)  # here too: whoever comes first
    return _Stage(pid, connection)


def _import(name: str) -> None:
    with contextlib.suppress(Exception):  # the stage that needs it will say so
        if name == "torchvision":
            from darkroom.models import lean

            lean.torchvision()
        else:
            importlib.import_module(name)


def _is_ours(address: Path, inode: int) -> bool:
    """Tell whether commands still come here: another process may have taken the place, or the environment may be gone."""
    try:
        return address.stat().st_ino == inode and os.path.exists(sys.executable)
    except FileNotFoundError:
        return False


def _child(connection: socket.socket, server: int) -> None:
    """Become the process of one command, and end with it, or with the server, which alone can tell how it went."""
    code = 1
    try:
        os.setpgid(0, 0)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != server:
            os._exit(code)
        connection.settimeout(STARTING)
        connection.sendall(struct.pack("!Q", os.getpid()))
        header, streams, _, _ = socket.recv_fds(connection, 8, 3)
        request = json.loads(receive(connection, struct.unpack("!Q", header)[0]).decode())
        _become(request, streams)
        connection.sendall(STARTED)
        connection.close()
    except BaseException:  # nothing has happened yet: the command runs itself
        os._exit(code)
    try:
        from darkroom.cli import main

        code = main(request["argv"][1:])
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            processes = sys.modules.get("multiprocessing")
            if processes and processes.active_children():  # what the interpreter does at its end, which a fork does not reach
                threading._shutdown()  # type: ignore[attr-defined]
                atexit._run_exitfuncs()
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code & 0xFF)


def _become(request: dict[str, Any], streams: list[int]) -> None:
    """Take over the surroundings of a command: streams, folder, variables, code."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    for name, number, (encoding, errors, lines, through) in zip(("stdout", "stderr"), (1, 2), request["streams"], strict=True):
        written = io.BufferedWriter(io.FileIO(number, "w", closefd=False))
        setattr(sys, name, io.TextIOWrapper(written, encoding, errors, line_buffering=lines or through))
    os.environ.clear()
    os.environ.update(request["env"])
    os.umask(request["umask"])
    os.chdir(request["cwd"])
    time.tzset()
    sys.argv, sys.path[:] = request["argv"], request["path"]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in [name for name in sys.modules if name.partition(".")[0] == "darkroom"]:
        del sys.modules[name]
    sys.modules["__main__"] = type(sys)("__main__")  # not this module again in the worker processes of a stage
    importlib.invalidate_caches()
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text("darkroom " + request["argv"][1][:6])


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]), socket.socket(fileno=int(sys.argv[3])))
