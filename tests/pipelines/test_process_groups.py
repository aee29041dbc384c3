"""Commands end with the flow run that started them, whatever ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from darkroom.core.errors import EX_TEMPFAIL
from pipelines import process_watcher
from pipelines.process_groups import CommandResult, ProcessGroups, StoppedError
from tests.conftest import ROOT
from tests.pipelines.processes import is_alive, wait_until

# a command that ignores SIGTERM, with a child, whose process ids it writes
STUBBORN = "trap '' TERM; sleep 600 & echo $! > child; echo $$ > parent; echo started; wait"


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(process_watcher, "GRACE", 0.5)


def read_ids() -> list[int]:
    """Return the process ids that STUBBORN has written, when it has."""
    return [int(wait_until(lambda name=name: Path(name).exists() and Path(name).read_text())) for name in ("child", "parent")]


def test_output_is_passed_on_line_by_line():
    """Lines end with a newline or a carriage return.

    The result has the exit code and the end of the output. After a normal end nothing else is run.
    """
    lines: list[str] = []
    with ProcessGroups(["touch", "killed"]) as processes:
        result = processes.run(["sh", "-c", "printf '1\\r2\\n\\n'; echo error: 3 >&2; exit 7"], lines.append)
        captured = processes.run(["sh", "-c", "echo out; echo log >&2"], lines.append, capture_stdout=True)
    assert lines == ["1", "2", "error: 3", "log"]
    assert (result.returncode, list(result.output), result.error, result.retryable) == (7, lines[:3], "error: 3", False)
    assert (captured.stdout, captured.returncode) == ("out\n", 0)
    assert CommandResult(EX_TEMPFAIL, []).retryable
    assert not Path("killed").exists()


def test_a_background_process_ends_with_its_command():
    """What a command leaves running is ended, and nobody waits for it."""
    with ProcessGroups() as processes:
        result = processes.run(["sh", "-c", "sleep 600 & echo $!"], lambda _: None)
        wait_until(lambda: not is_alive(int(result.output[0])))


def test_a_time_limit_ends_a_command_that_ignores_sigterm():
    """After the time limit, SIGTERM and the grace period, the whole group is killed."""
    with ProcessGroups() as processes:
        result = processes.run(["sh", "-c", STUBBORN], lambda _: None, limit=0.3)
        assert result.timed_out
        wait_until(lambda: not any(map(is_alive, read_ids())))


def test_stop_ends_all_commands_and_starts_no_other():
    """A stopped command raises StoppedError in the thread that runs it, and so does every later one."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            processes.run(["sh", "-c", STUBBORN], lambda _: None)
        except StoppedError as error:
            errors.append(error)

    with ProcessGroups() as processes:
        thread = threading.Thread(target=run)
        thread.start()
        ids = read_ids()
        processes.stop()
        thread.join(120)
        wait_until(lambda: not any(map(is_alive, ids)))
        with pytest.raises(StoppedError):
            processes.run(["true"], lambda _: None)
    assert len(errors) == 1


def test_an_exception_while_a_line_is_handled_ends_the_command():
    """An interrupt in the thread that reads a command's output ends the command."""

    def interrupt(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), ProcessGroups() as processes:
        processes.run(["sh", "-c", STUBBORN], interrupt)
    wait_until(lambda: not any(map(is_alive, read_ids())))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_owner_leaves_no_process(number):
    """Where the process that runs commands is killed, the watcher ends them, and then runs the command `after_death`."""
    code = "import sys; from pipelines.process_groups import ProcessGroups\n"
    code += "with ProcessGroups(['touch', 'killed']) as processes: processes.run(['sh', '-c', sys.argv[1]], print)"
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}"}
    command = [sys.executable, "-u", "-c", code, STUBBORN]
    owner = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert owner.stdout.readline() == "started\n"  # the watcher knows the process group by now
    ids = read_ids()
    owner.send_signal(number)
    owner.wait(120)
    wait_until(lambda: not any(map(is_alive, ids)))
    wait_until(Path("killed").exists)
