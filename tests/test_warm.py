"""The process that has torch in memory: a command run through it is the command."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

from darkroom.warm import command, server

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="stages are forked on Linux alone")

CLIENT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
from darkroom.warm import command
sys.path.insert(0, {package!r})
code = command.run(sys.argv[1:])
raise SystemExit(99 if code is None else code)
"""
COMMAND = "def main(argv):\n    names = {}\n    exec(argv[0], names)\n    return names.get('code', 0)\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a command `darkroom` that does what its argument says, and a place for sockets of its own."""
    folder = tmp_path_factory.mktemp("warm")
    (folder / "sockets").mkdir()
    (folder / "package" / "darkroom").mkdir(parents=True)
    (folder / "package" / "darkroom" / "__init__.py").touch()
    (folder / "package" / "darkroom" / "cli.py").write_text(COMMAND)
    return folder


def start(place, code, **options):
    variables = options.pop("variables", {})
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "DARKROOM"))}
    return subprocess.Popen(
        [sys.executable, "-c", CLIENT.format(package=str(place / "package")), code],
        env={**env, "TMPDIR": str(place / "sockets"), **variables},
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options},
    )


def run(place, code, given=None, **options):
    process = start(place, code, stdin=subprocess.PIPE, **options)
    out, error = process.communicate(given, timeout=120)
    return process.returncode, out, error


def eventually(condition):
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def is_there(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_surroundings_are_those_of_the_command(place, tmp_path):
    """Streams, folder, variables, mask, arguments and exit code are those of the command; torch is there from the start."""
    code = """
import os, sys, time
print(sys.stdin.read(), os.getcwd(), os.environ["MARK"], oct(os.umask(0)), sys.argv[1][:7], "torch" in sys.modules)
print("ä", time.localtime(0).tm_hour, file=sys.stderr)
code = 7 if os.path.exists("/proc/" + os.environ["DARKROOM_COMMAND"]) else 8
"""
    variables = {"MARK": "here", "TZ": "UTC-5", "PYTHONIOENCODING": "latin-1"}
    result = run(place, code, "given", cwd=tmp_path, umask=0o027, variables=variables, encoding="latin-1")
    assert result == (7, f"given {tmp_path} here 0o27 \nimport True\n", "ä 5\n")


def test_one_process_serves_all(place, tmp_path):
    """Commands of one environment are forked from one process; another environment, read by libraries, has another one."""
    parents = [int(run(place, "import os; print(os.getppid())", cwd=folder)[1]) for folder in (tmp_path, place)]
    assert parents[0] == parents[1]
    other = run(place, "import os; print(os.getppid())", variables={"OMP_NUM_THREADS": "1"})
    assert int(other[1]) != parents[0]


def test_it_is_there_before_it_is_needed(place):
    """A stage that does without torch starts the process and does not wait for it; the stage that needs it is forked from that."""
    code = "from darkroom.warm import command; command.begin(); command.begin(); print(command._address())"
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "DARKROOM"))}
    env |= {"TMPDIR": str(place / "sockets"), "MALLOC_ARENA_MAX": "5"}
    address = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout.strip()
    begun = [process for process in psutil.process_iter(["cmdline"]) if address in (process.info["cmdline"] or [])]
    assert len(begun) == 1
    parent = run(place, "import os; print(os.getppid())", variables={"MALLOC_ARENA_MAX": "5"})[1]
    assert int(parent) == begun[0].pid


def test_the_code_on_disk_runs(place):
    """Code of ours that changes between two commands is run as it is now."""
    module = place / "package" / "darkroom" / "cli.py"
    try:
        module.write_text("def main(argv):\n    print('changed code')\n    return 3\n")
        assert run(place, "")[:2] == (3, "changed code\n")
    finally:
        module.write_text(COMMAND)
    assert run(place, "print('and back')")[:2] == (0, "and back\n")


def test_mistakes_end_the_command_alone(place):
    """An exception is a traceback and exit code 1, SystemExit its own code, and the next command runs."""
    code, _, error = run(place, "1 / 0")
    assert code == 1
    assert "ZeroDivisionError" in error
    assert run(place, "raise SystemExit(5)")[0] == 5
    assert run(place, "raise SystemExit('why')")[::2] == (1, "why\n")
    code, _, error = run(place, "import os; os.kill(os.getpid(), 9)")
    assert code == 137
    assert "SIGKILL" in error
    assert "memory" in error
    code, _, error = run(place, "import os; os.abort()")
    assert code == 134
    assert "SIGABRT" in error
    assert run(place, "")[0] == 0


def test_control_c_reaches_it(place):
    """SIGINT is KeyboardInterrupt in the command, whose exit code is returned."""
    code = """
import time
try:
    print("ready", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    print("interrupted")
    code = 130
"""
    process = start(place, code)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30)[0] == "interrupted\n"
    assert process.returncode == 130


def test_control_z_stops_it(place):
    """SIGTSTP stops the command's process with the command, SIGCONT lets both go on."""

    def state(pid):
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0]

    process = start(place, "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(2)\nprint('done')")
    child = int(process.stdout.readline())
    process.send_signal(signal.SIGTSTP)
    eventually(lambda: state(child) == state(process.pid) == "T")
    process.send_signal(signal.SIGCONT)
    assert process.communicate(timeout=30)[0] == "done\n"
    assert process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_the_command(place, number):
    """When the command is killed, its process and the processes that this one started end too."""
    code = """
import os, subprocess, time
inner = subprocess.Popen(["sleep", "60"])
print(os.getpid(), inner.pid, flush=True)
time.sleep(60)
"""
    process = start(place, code)
    both = [int(pid) for pid in process.stdout.readline().split()]
    assert all(is_there(pid) for pid in both)
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == -number
    eventually(lambda: not any(is_there(pid) for pid in both))


def test_a_stopped_command_that_is_killed_leaves_nothing(place):
    """A process that was stopped with Ctrl-Z ends too when its command is killed."""
    process = start(place, "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)")
    child = int(process.stdout.readline())
    os.killpg(child, signal.SIGSTOP)
    process.kill()
    process.communicate(timeout=30)
    eventually(lambda: not is_there(child))


def test_a_stage_ends_with_the_process_that_it_was_forked_from(place):
    """When that process is killed, the stage ends too, and the command says so; the next command starts another one."""
    process = start(place, "import os, time\nprint(os.getpid(), os.getppid(), flush=True)\ntime.sleep(60)")
    child, server = (int(pid) for pid in process.stdout.readline().split())
    os.kill(server, signal.SIGKILL)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 143
    assert "SIGTERM" in error
    eventually(lambda: not is_there(child))
    assert run(place, "print('again')")[:2] == (0, "again\n")


def test_what_a_command_leaves_behind_ends_with_it(place, tmp_path):
    """Processes that a command started end with it, worker processes in order; one that was detached stays."""
    (tmp_path / "work.py").write_text("import os\ndef number(x): return os.getpid()\n")
    code = f"""
import os, subprocess, sys
sys.path.insert(0, {str(tmp_path)!r})
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
import work
inner = subprocess.Popen(["sleep", "60"])
outer = subprocess.Popen(["sleep", "60"], start_new_session=True, stdout=-3, stderr=-3)
pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
print(inner.pid, outer.pid, pool.submit(work.number, 1).result(), flush=True)
"""
    before = set(os.listdir("/dev/shm"))
    code, out, error = run(place, code)
    assert out, error
    inner, outer, worker = (int(pid) for pid in out.split())
    assert (code, error) == (0, "")
    eventually(lambda: not is_there(inner) and not is_there(worker))
    assert is_there(outer)
    os.kill(outer, signal.SIGKILL)
    assert not {name for name in set(os.listdir("/dev/shm")) - before if name.startswith("sem.mp")}


def test_unbuffered_output_keeps_its_order(place, tmp_path):
    """With PYTHONUNBUFFERED both streams are written as they come; without a terminal stdout waits otherwise, as ever."""
    code = "import sys\nfor i in range(2):\n    print('out', i)\n    print('error', i, file=sys.stderr)"
    for variables, expected in (
        ({"PYTHONUNBUFFERED": "1"}, "out 0\nerror 0\nout 1\nerror 1\n"),
        ({}, "error 0\nerror 1\nout 0\nout 1\n"),
    ):
        with open(tmp_path / "log", "w") as log:
            assert start(place, code, variables=variables, stdout=log, stderr=log).wait(timeout=60) == 0
        assert (tmp_path / "log").read_text() == expected


def test_an_older_kernel_is_done_without(monkeypatch):
    """Where processes cannot be watched, the command runs itself."""

    def missing(pid):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", missing)
    monkeypatch.setattr(command, "_is_alone", lambda: False)
    monkeypatch.setattr(command, "_start", lambda address: pytest.fail("started"))
    monkeypatch.setattr(command, "_connect", lambda address: pytest.fail("asked"))
    assert command.run(["--version"]) is None


def test_a_process_that_hangs_is_done_without(place, monkeypatch, tmp_path):
    """Where nobody answers in time, the command runs itself, nothing of it runs later, and the next one starts another process."""
    monkeypatch.setattr(command, "STARTING", 0.3)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(command, "_is_alone", lambda: False)
    address = command._address()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(address))
    listener.listen()
    assert command.run(["--version"]) is None
    assert not address.exists()
    listener.close()


def test_where_it_cannot_be_had_the_command_runs_itself(place, tmp_path):
    """Switched off, under an option of the interpreter, or in a place that others can write to, nothing is forked."""
    assert run(place, "", variables={"DARKROOM_WARM": "0"})[0] == 99
    assert run(place, "", variables={"PYTHONWARNINGS": "ignore"})[0] == 99
    (tmp_path / f"darkroom-{os.getuid()}").mkdir(mode=0o755)
    (tmp_path / f"darkroom-{os.getuid()}").chmod(0o755)
    assert run(place, "", variables={"TMPDIR": str(tmp_path)})[0] == 99
    (tmp_path / ("x" * 120)).mkdir()  # too long for a socket
    assert run(place, "", variables={"TMPDIR": str(tmp_path / ("x" * 120))})[0] == 99


def test_a_process_that_cannot_start_is_done_without(place):
    """Where torch cannot be imported, the command runs itself and shows why."""
    assert run(place, "", variables={"PYTHONPATH": str(place / "broken")})[0] == 0
    (place / "broken").mkdir()
    (place / "broken" / "yaml.py").write_text("raise ImportError('broken')\n")
    assert run(place, "", variables={"PYTHONPATH": str(place / "broken"), "MALLOC_ARENA_MAX": "3"})[0] == 99


@pytest.mark.parametrize("why", ["idle", "replaced"])
def test_it_ends(tmp_path, why):
    """Without work, or when commands go elsewhere, the process ends and leaves no socket of its own."""
    address = tmp_path / "one.socket"
    patience = 0.5 if why == "idle" else 600
    code = f"""
import socket
from pathlib import Path
from darkroom.warm import server
server.FIRST, server.LATER, server.TICK = (), (), 0.1
listener = socket.socket(socket.AF_UNIX)
listener.bind({str(address)!r})
listener.listen()
server.serve(Path({str(address)!r}), Path({str(address)!r}).stat().st_ino, listener)
"""
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "DARKROOM_WARM": str(patience)})
    if why == "replaced":
        eventually(address.exists)
        (tmp_path / "another").touch()
        (tmp_path / "another").replace(address)
    assert process.wait(timeout=60) == 0
    assert address.exists() == (why == "replaced")


def test_only_third_party_packages_are_kept():
    """What is imported ahead is none of our own code."""
    assert not any(name.startswith("darkroom") for name in (*server.FIRST, *server.LATER))
