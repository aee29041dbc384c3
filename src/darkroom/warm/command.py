"""The side of the command: it finds or starts the process that has torch in memory, hands itself over, and waits.

What is said on the socket: the forked process its number; the command its streams and its surroundings; the process STARTED
once it has taken them over, from where on the command never runs itself; the server ENDED with the exit status.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

PATIENCE = 300.0  # seconds without work after which the process ends
STARTING = 60.0  # seconds in which it must have torch in memory
SHAPING = (
    "ATEN_", "BLIS_", "CUDA", "DNNL_", "GLIBC_", "GOMP_", "GOTO_", "KMP_", "LC_", "LD_", "MALLOC_", "MKL_", "NPY_", "NUMPY_",
    "NVIDIA_", "NVPL_", "OMP_", "ONEDNN_", "OPENBLAS_", "OPENSSL_", "ORT_", "PILLOW_", "PYDANTIC_", "PYTHON", "PYTORCH_", "TORCH",
)  # fmt: skip  # variables that are read when libraries are loaded
LISTENING = 0.5  # seconds for which a signal may go unnoticed: Python runs its handler before a system call or after it
STARTED, ENDED = b"+", b"="
LIMITS = ("RLIMIT_AS", "RLIMIT_CPU", "RLIMIT_DATA", "RLIMIT_NOFILE", "RLIMIT_NPROC", "RLIMIT_STACK")


def run(arguments: list[str]) -> int | None:
    """Run a command in a process forked from one with torch in memory; return its exit code, or None if that cannot be had."""
    if not _is_possible():
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


def begin() -> None:
    """Start the process, unless there is one, and do not wait: a stage that does without torch runs, and one will follow."""
    if _is_possible():
        with contextlib.suppress(OSError, ValueError):
            address = _address()
            if not address.exists():
                _launch(address)


def _is_possible() -> bool:
    if sys.platform != "linux" or not patience() or _is_alone():
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))  # by which it watches stages: Linux 5.3
    except OSError:
        return False
    return True


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
        *(Path(__file__).parent.joinpath(name).stat().st_mtime_ns for name in ("command.py", "server.py", "../models/lean.py")),
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
    _launch(address)
    connection = _connect(address)
    if connection is None:
        raise ConnectionError("the process that was started does not answer")
    return connection


def _launch(address: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        fresh = address.with_suffix(f".{os.getpid()}")
        listener.bind(str(fresh))
        listener.listen(64)
        inode = fresh.stat().st_ino
        fresh.replace(address)
        subprocess.Popen(
            [sys.executable, "-P", "-m", "darkroom.warm.server", str(address), str(inode), str(listener.fileno())],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
            pass_fds=[listener.fileno()], start_new_session=True,
        )  # fmt: skip


def _hand_over(connection: socket.socket, arguments: list[str]) -> int | None:
    """Give a command to the process that was forked for it; return its process group, or None if it did not start."""
    number = receive(connection, 8)
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
    return int(struct.unpack("!Q", number)[0]) if receive(connection, 1) == STARTED else None


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
    connection.settimeout(LISTENING)
    while True:
        try:
            ended = receive(connection, 5)
            break
        except TimeoutError:  # a signal that came on the way to waiting is passed on now
            pass
    code = int(struct.unpack("!i", ended[1:])[0]) if len(ended) == 5 else -signal.SIGTERM
    if code >= 0:
        return code
    why = {9: "\n  remedy: if memory ran out, lower `batch_size`", 15: "\n  remedy: run it again"}.get(-code, "")
    with contextlib.suppress(OSError):
        print(f"error: the process of this stage was ended by {signal.Signals(-code).name}{why}", file=sys.stderr)
    return 128 - code


def receive(connection: socket.socket, size: int) -> bytes:
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
