"""Progress on a terminal and in a log file."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from darkroom.core import progress
from darkroom.core.progress import Progress, duration, rate


@pytest.mark.parametrize(("seconds", "text"), [(8.4, "8 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")])
def test_durations_in_words(seconds, text):
    """Seconds, minutes and hours."""
    assert duration(seconds) == text


@pytest.mark.parametrize(("per_second", "text"), [(1310, "1,310 a second"), (0.2, "12 a minute")])
def test_rates_in_words(per_second, text):
    """Slow work is counted by the minute."""
    assert rate(per_second) == text


def test_a_log_file_gets_a_line_now_and_then(capsys, monkeypatch):
    """A line says how far the work is, how fast, and how long it will take; the last one how long it took."""
    clock = iter(range(0, 1000, 4))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with Progress("embed", 6, every=10.0) as bar:
        for _ in range(6):
            bar.advance(note="lr 0.1")
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("embed: 6 of 6 images in ")
    assert all(line.endswith("lr 0.1") for line in lines)
    assert 1 < len(lines) < 6
    assert lines[0].split(", ")[-1].endswith(" left  lr 0.1")


def test_failed_work_is_not_called_done(capsys):
    """After an exception no line says that all is done."""
    with pytest.raises(ZeroDivisionError), Progress("embed", 6):
        raise ZeroDivisionError
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar_and_one_line_at_the_end():
    """On a terminal the bar is erased; nested work has a bar of its own; text is not read as markup."""
    code = "from darkroom.core.progress import Progress\nwith Progress('a', 2) as outer:\n  for _ in range(2):\n"
    code += "    with Progress('b', 1) as inner: inner.advance(note='[/x]')\n    outer.advance()"
    terminal, child = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "120"}
    done = subprocess.run([sys.executable, "-c", code], stderr=child, env=environment)
    os.close(child)
    text = os.read(terminal, 100_000).decode()
    os.close(terminal)
    assert done.returncode == 0
    assert "a: 2 of 2 images in " in text
    assert "b: 1 of 1 images in 0 s  [/x]" in text
