"""A process that has torch in memory, from which stages are forked: importing torch takes longer than many a stage.

The first stage that needs torch starts it, it serves every workspace of the user that has the same environment, and it ends
after `PATIENCE` seconds without work. It imports third-party packages alone, so that a stage always runs the code that is on
disk. The command itself waits: signals go on to the stage, and the stage ends when its command does. Only on Linux, where
forking is safe at this point. `DARKROOM_WARM` is another number of seconds, 0 does without, as do a debugger, a profiler and
every failure to get there.

What is said on the socket: the forked process its number; the command its streams and its surroundings; the process STARTED
once it has taken them over, from where on the command never runs itself; the server ENDED with the exit status.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import hashlib
import importlib
import importlib.util
import io
import json
import os
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

PATIENCE = 300.0  # seconds without work after which the process ends
STARTING = 60.0  # seconds in which it must have torch in memory
GRACE = 5.0  # seconds in which a stage must end whose command has gone
TICK = 1.0
QUIET = 3.0  # seconds after a start before it imports more, so that stages do not start slower for it
FIRST = ("numpy", "pydantic", "yaml", "torch")  # before it answers
LATER = ("torchvision", "safetensors.torch", "onnxruntime")  # while the first stage works
SHAPING = (
    "ATEN_", "BLIS_", "CUDA", "DNNL_", "GLIBC_", "GOMP_", "GOTO_", "KMP_", "LC_", "LD_", "MALLOC_", "MKL_", "NPY_", "NUMPY_",
    "NVIDIA_", "NVPL_", "OMP_", "ONEDNN_", "OPENBLAS_", "OPENSSL_", "ORT_", "PILLOW_", "PYDANTIC_", "PYTHON", "PYTORCH_", "TORCH",
)  # fmt: skip  # variables that are read when libraries are loaded
STARTED, ENDED = b"+", b"="
PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>
LIMITS = ("RLIMIT_AS", "RLIMIT_CPU", "RLIMIT_DATA", "RLIMIT_NOFILE", "RLIMIT_NPROC", "RLIMIT_STACK")


def run(arguments: list[str]) -> int | None:
    """Run a command in a process forked from one with torch in memory; return its exit code, or None if that cannot be had."""
    if sys.platform != "linux" or not patience() or _is_alone():
        return None
    try:
        address = _address()
        connection = _connect(address) or _start(address)
    except (OSError, ValueError):
        return None
    with connection:
        try:
            group = _hand_over(connection, arguments)
        except TimeoutError:  # it hangs: the next command shall start another one
            address.unlink(missing_ok=True)
            return None
        except (OSError, ValueError):
            return None
        return None if group is None else _follow(connection, group)


def patience() -> float:
    """Return for how many seconds without work the process stays, 0 where there is to be none."""
    try:
        return float(os.environ.get("DARKROOM_WARM", PATIENCE))
    except ValueError:
        return PATIENCE


def _is_alone() -> bool:
    """Tell whether it has to be this very process: a debugger, a profiler, options of the interpreter, a closed stream."""
    flags = sys.flags
    looked_at = sys.gettrace() or sys.getprofile() or sys._xoptions or sys.warnoptions or flags.inspect
    return bool(looked_at or flags.isolated or flags.ignore_environment or flags.no_user_site) or None in (
        sys.stdin, sys.stdout, sys.stderr,
    )  # fmt: skip


def _address() -> Path:
    """Return where the process of this user and this environment listens; another environment has another one."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        raise ValueError("torch is not installed")
    packages = Path(spec.origin).parent.parent
    shape = [
        sys.version, sys.executable, list(sys.flags), str(packages), packages.stat().st_mtime_ns,
        *(Path(__file__).parent.joinpath(name).stat().st_mtime_ns for name in ("warm.py", "models/lean.py")),
        sorted((key, value) for key, value in os.environ.items() if key == "LANG" or key.startswith(SHAPING)),
        [resource.getrlimit(getattr(resource, name)) for name in LIMITS], os.nice(0), sorted(os.sched_getaffinity(0)),
        Path("/proc/self/cgroup").read_text(), [os.readlink(f"/proc/self/ns/{kind}") for kind in ("mnt", "net", "pid", "user")],
        os.getuid(), os.getgid(), os.getgroups(),
    ]  # fmt: skip
    name = hashlib.sha256(json.dumps(shape).encode()).hexdigest()[:24]
    if tempfile.gettempdir() == os.getcwd():  # what Python takes where it may write nowhere else
        raise OSError("there is no folder for temporary files")
    folder = Path(tempfile.gettempdir(), f"darkroom-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid() or found.st_mode & 0o77:
        raise OSError(f"{folder} belongs to others")
    return folder / f"{name}.socket"


def _connect(address: Path) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(STARTING)
    try:
        connection.connect(str(address))
    except OSError:
        connection.close()
        return None
    return connection


def _start(address: Path) -> socket.socket:
    """Start the process and connect to it; what is asked before it has torch in memory waits."""
    with socket.socket(socket.AF_UNIX) as listener:
        fresh = address.with_suffix(f".{os.getpid()}")
        listener.bind(str(fresh))
        listener.listen(64)
        inode = fresh.stat().st_ino
        fresh.replace(address)
        subprocess.Popen(
            [sys.executable, "-P", "-m", "darkroom.warm", str(address), str(inode), str(listener.fileno())],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
            pass_fds=[listener.fileno()], start_new_session=True,
        )  # fmt: skip
    connection = _connect(address)
    if connection is None:
        raise ConnectionError("the process that was started does not answer")
    return connection


def _hand_over(connection: socket.socket, arguments: list[str]) -> int | None:
    """Give a command to the process that was forked for it; return its process group, or None if it did not start."""
    number = _receive(connection, 8)
    if len(number) < 8:
        return None
    mask = os.umask(0)
    os.umask(mask)
    request = {
        "argv": [sys.argv[0], *arguments], "cwd": os.getcwd(), "umask": mask, "path": sys.path,
        "env": {**os.environ, "DARKROOM_COMMAND": str(os.getpid())},
        "streams": [[out.encoding, out.errors, out.line_buffering, out.write_through] for out in (sys.stdout, sys.stderr)],  # type: ignore[attr-defined, union-attr]
    }  # fmt: skip
    content = json.dumps(request).encode()
    socket.send_fds(connection, [struct.pack("!Q", len(content))], [0, 1, 2])
    connection.sendall(content)
    return int(struct.unpack("!Q", number)[0]) if _receive(connection, 1) == STARTED else None


def _follow(connection: socket.socket, group: int) -> int:
    """Wait for the end of a command that has started, passing signals on, and return its exit code."""

    def pass_on(number: int, frame: Any) -> None:
        with contextlib.suppress(OSError):
            os.killpg(group, signal.SIGSTOP if number == signal.SIGTSTP else number)
        if number == signal.SIGTSTP:
            os.kill(os.getpid(), signal.SIGSTOP)

    for number in (signal.SIGINT, signal.SIGTSTP, signal.SIGCONT):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, pass_on)
    connection.settimeout(None)
    ended = _receive(connection, 5)
    code = int(struct.unpack("!i", ended[1:])[0]) if len(ended) == 5 else -signal.SIGTERM
    if code >= 0:
        return code
    why = {9: "\n  remedy: if memory ran out, lower `batch_size`", 15: "\n  remedy: run it again"}.get(-code, "")
    with contextlib.suppress(OSError):
        print(f"error: the process of this stage was ended by {signal.Signals(-code).name}{why}", file=sys.stderr)
    return 128 - code


def _receive(connection: socket.socket, size: int) -> bytes:
    """Return this many bytes, or fewer where the other side has gone."""
    content = b""
    while len(content) < size:
        try:
            more = connection.recv(size - len(content))
        except ConnectionError:
            more = b""
        if not more:
            break
        content += more
    return content


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
    used = time.monotonic()  # when a command last came or ended
    while True:
        waiting = select.poll()
        waiting.register(listener, select.POLLIN)
        for stage in working:
            waiting.register(stage.ended, select.POLLIN)
            if not stage.left:
                waiting.register(stage.connection, select.POLLRDHUP)  # not what is said on it, which is for the stage
        ready = {number for number, _ in waiting.poll(1000 * TICK)}
        if listener.fileno() in ready:
            used = time.monotonic()
            with contextlib.suppress(OSError):  # it has gone again, or no process can be had: the command runs itself
                working.append(_fork(listener, working))
        elif later and time.monotonic() - used > QUIET:
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
        request = json.loads(_receive(connection, struct.unpack("!Q", header)[0]).decode())
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
