"""A process that has torch in memory, from which stages are forked: importing torch takes longer than many a stage.

The first stage that needs torch starts it, it serves every workspace of the user that has the same environment, and it ends
after `PATIENCE` seconds without work. It imports third-party packages alone, so that a stage always runs the code that is on
disk. The command itself waits: signals go on to the stage, and the stage ends when its command does. Only on Linux, where
forking is safe at this point; `DARKROOM_WARM=0` does without, as do a debugger, a profiler and every failure to get there.
"""

from __future__ import annotations

import contextlib
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
STARTING = 120.0  # seconds in which it must have torch in memory
TICK = 1.0
QUIET = 3.0  # seconds after a start before it imports more, so that stages do not start slower for it
FIRST = ("numpy", "pydantic", "yaml", "torch")  # before it answers
LATER = ("torchvision", "safetensors.torch", "onnxruntime")  # while the first stage works
SHAPING = ("ATEN_", "CUDA", "DNNL_", "GOMP_", "KMP_", "LC_", "LD_", "MALLOC_", "MKL_", "NVIDIA_", "OMP_", "ONEDNN_", "OPENBLAS_",
           "PYTHON", "PYTORCH_", "TORCH")  # fmt: skip  # variables that are read when libraries are loaded
LIMITS = ("RLIMIT_AS", "RLIMIT_CPU", "RLIMIT_DATA", "RLIMIT_NOFILE", "RLIMIT_NPROC", "RLIMIT_STACK")


def run(arguments: list[str]) -> int | None:
    """Run a command in a process forked from one with torch in memory; return its exit code, or None if that cannot be had."""
    if sys.platform != "linux" or os.environ.get("DARKROOM_WARM") == "0" or _is_watched():
        return None
    try:
        address = _address()
        with _connect(address) or _start(address) as connection:
            return _wait(connection, arguments)
    except (OSError, ValueError):
        return None


def _is_watched() -> bool:
    """Tell whether it has to be this very process: a debugger, a profiler, an option of the interpreter, no streams."""
    looked_at = sys.gettrace() or sys.getprofile() or sys._xoptions or sys.flags.inspect or sys.warnoptions
    return bool(looked_at) or sys.stdout is None or sys.stderr is None


def _address() -> Path:
    """Return where the process of this user and this environment listens; another environment has another one."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        raise ValueError("torch is not installed")
    packages = Path(spec.origin).parent.parent
    shape = [
        sys.version, sys.executable, sys.flags.optimize, str(packages), packages.stat().st_mtime_ns,
        *(Path(__file__).parent.joinpath(name).stat().st_mtime_ns for name in ("warm.py", "models/lean.py")),
        sorted((key, value) for key, value in os.environ.items() if key == "LANG" or key.startswith(SHAPING)),
        [resource.getrlimit(getattr(resource, name)) for name in LIMITS], os.nice(0), sorted(os.sched_getaffinity(0)),
        Path("/proc/self/cgroup").read_text(), [os.readlink(f"/proc/self/ns/{kind}") for kind in ("mnt", "net", "pid", "user")],
        os.getuid(), os.getgid(), os.getgroups(),
    ]  # fmt: skip
    name = hashlib.sha256(json.dumps(shape).encode()).hexdigest()[:24]
    folder = Path(tempfile.gettempdir(), f"darkroom-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid() or found.st_mode & 0o77:
        raise OSError(f"{folder} belongs to others")
    return folder / f"{name}.socket"


def _connect(address: Path) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX)
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
        fresh.replace(address)
        subprocess.Popen(
            [sys.executable, "-P", "-m", "darkroom.warm", str(address), str(listener.fileno())],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
            pass_fds=[listener.fileno()], start_new_session=True,
        )  # fmt: skip
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(address))
        return connection


def _wait(connection: socket.socket, arguments: list[str]) -> int | None:
    """Hand a command over and wait for its end, passing signals on; return its exit code, or None if it did not start."""
    mask = os.umask(0)
    os.umask(mask)
    request = {
        "argv": [sys.argv[0], *arguments], "cwd": os.getcwd(), "umask": mask, "path": sys.path,
        "env": {**os.environ, "DARKROOM_COMMAND": str(os.getpid())},
        "streams": [[stream.encoding, stream.errors] for stream in (sys.stdout, sys.stderr)],
    }  # fmt: skip
    content = json.dumps(request).encode()
    connection.settimeout(STARTING)
    socket.send_fds(connection, [struct.pack("!Q", len(content))], [0, 1, 2])
    connection.sendall(content)
    started = _receive(connection, 8)
    if len(started) < 8:
        return None
    group = struct.unpack("!Q", started)[0]
    connection.settimeout(None)

    def passed_on(number: int, frame: Any) -> None:
        with contextlib.suppress(ProcessLookupError):
            if number == signal.SIGTSTP:
                os.killpg(group, signal.SIGSTOP)
                os.kill(os.getpid(), signal.SIGSTOP)
            else:
                os.killpg(group, number)

    for number in (signal.SIGINT, signal.SIGTSTP, signal.SIGCONT):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, passed_on)
    ended = _receive(connection, 8)
    if len(ended) < 8:
        print("error: the process of this stage was killed\n  remedy: if memory ran out, lower `batch_size`", file=sys.stderr)
        return 137
    return int(struct.unpack("!q", ended)[0])


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


def serve(address: Path, listener: socket.socket) -> None:
    """Fork a process for every command that comes, until there is none for `PATIENCE` seconds."""
    for name in FIRST:
        importlib.import_module(name)
    later = list(LATER)
    inode = address.stat().st_ino
    working: set[int] = set()
    used = time.monotonic()  # when a command last came or ended
    while True:
        if select.select([listener], [], [], TICK)[0]:
            connection = listener.accept()[0]
            child = os.fork()
            if child == 0:
                listener.close()
                _child(connection)
            connection.close()
            working.add(child)
            used = time.monotonic()
        elif later and time.monotonic() - used > QUIET:
            _import(later.pop(0))
        ended = {child for child in working if os.waitpid(child, os.WNOHANG)[0]}
        if ended:
            working -= ended
            used = time.monotonic()
        if not working and (time.monotonic() - used > PATIENCE or not _is_ours(address, inode)):
            break
    if _is_ours(address, inode):
        address.unlink()


def _import(name: str) -> None:
    with contextlib.suppress(ImportError):
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


def _child(connection: socket.socket) -> None:
    """Become the process of one command, and end with it."""
    code = 1
    try:
        os.setpgid(0, 0)
        header, streams, _, _ = socket.recv_fds(connection, 8, 3)
        request = json.loads(_receive(connection, struct.unpack("!Q", header)[0]).decode())
        _become(request, streams)
        connection.sendall(struct.pack("!Q", os.getpid()))
        threading.Thread(target=_end_with, args=(connection,), daemon=True).start()
        from darkroom.cli import main

        code = main(request["argv"][1:])
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        with contextlib.suppress(BaseException):
            connection.sendall(struct.pack("!q", code))
        os._exit(code)


def _become(request: dict[str, Any], streams: list[int]) -> None:
    """Take over the surroundings of a command: streams, folder, variables, code."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    for name, number, (encoding, errors) in zip(("stdout", "stderr"), (1, 2), request["streams"], strict=True):
        lines = number == 2 or os.isatty(number)
        setattr(
            sys,
            name,
            io.TextIOWrapper(io.BufferedWriter(io.FileIO(number, "w", closefd=False)), encoding, errors, line_buffering=lines),
        )
    os.environ.clear()
    os.environ.update(request["env"])
    os.umask(request["umask"])
    os.chdir(request["cwd"])
    time.tzset()
    sys.argv, sys.path[:] = request["argv"], request["path"]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in [name for name in sys.modules if name.partition(".")[0] == "darkroom"]:
        del sys.modules[name]
    importlib.invalidate_caches()
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text("darkroom " + request["argv"][1][:6])


def _end_with(connection: socket.socket) -> None:
    """End this process and its own ones when the command that waits for it has gone."""
    with contextlib.suppress(OSError):
        connection.recv(1)
    os.killpg(0, signal.SIGTERM)
    time.sleep(5)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), socket.socket(fileno=int(sys.argv[2])))
