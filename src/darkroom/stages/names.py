"""Check params.yaml before its names become paths and parts of commands.

DVC fills the names of backbones and data sets into commands, which a shell runs, and into paths, which it deletes before a
stage runs. Every stage with such a name comes after this one, so that `../../src` or `x; rm -r data` ends the run here.
"""

from __future__ import annotations

from pathlib import Path

from darkroom.core import atomic
from darkroom.stages.context import session


def run(out: Path) -> None:
    with session("names", ["backbones", "fetch.datasets"], []), atomic.new_file(out) as working:
        working.write_text("The names in params.yaml are valid.\n", encoding="utf-8")  # always, so that nothing else runs for it
