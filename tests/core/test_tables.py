"""Tables and JSON on standard output."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys

from darkroom.core import tables

HEADER, ROWS = ("model", "accuracy"), [("→ [bold]b", 0.5), ("c" * 150, None)]
SHOW = f"from darkroom.core import tables; tables.show({HEADER!r}, {ROWS!r}, right=('accuracy',))"


def test_columns_are_aligned(capsys):
    """Numbers are aligned to the right, a cell is never shortened, no line has a trailing space, and markup is text."""
    tables.show(HEADER, ROWS, right=("accuracy",))
    lines = capsys.readouterr().out.splitlines()
    assert lines == tables.text(HEADER, ROWS, right=("accuracy",)).splitlines()
    assert lines[0] == f"{'model':<150}  accuracy"
    assert set(lines[1]) == {"─"}
    assert lines[2] == f"{'→ [bold]b':<150}       0.5"
    assert lines[3] == "c" * 150


def test_a_terminal_shows_colours_unless_asked_not_to():
    """On a terminal the header is bold; with NO_COLOR and in a pipe there is no colour."""
    for settings, coloured in (({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)):
        terminal, child = pty.openpty()
        subprocess.run([sys.executable, "-c", SHOW], stdout=child, env={**os.environ, "TERM": "xterm", **settings})
        os.close(child)
        assert ("\x1b[" in os.read(terminal, 10_000).decode()) == coloured
        os.close(terminal)
    assert b"\x1b[" not in subprocess.run([sys.executable, "-c", SHOW], capture_output=True).stdout


def test_json_is_plain(capsys):
    """JSON is ASCII, whatever the terminal."""
    tables.print_json({"name": "→"})
    text = capsys.readouterr().out
    assert text.isascii()
    assert json.loads(text) == {"name": "→"}
