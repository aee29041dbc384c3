"""Check params.yaml before its names become paths and parts of commands.

DVC fills the names of backbones and data sets into commands, which a shell runs, and into paths, which it deletes before a
stage runs. Every stage with such a name comes after this one, so that `../../src` or `x; rm -r data` ends the run here.

Each backbone gets a file with what decides its network beside Darkroom: of one of the project's own the digest of its code. The
stages of a backbone depend on that file, so that those of others do not run again when a network has changed.
"""

from __future__ import annotations

from pathlib import Path

from darkroom.core import atomic
from darkroom.models.backbones import own_code
from darkroom.stages.context import session


def run(out: Path, backbones: Path) -> None:
    with session("names", ["backbones", "fetch.datasets"], []) as (settings, _):
        texts = {name: _describe(name) for name in settings.backbones}
        with atomic.new_folder(backbones) as working:
            for name, text in texts.items():
                file = working / f"{name}.txt"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, encoding="utf-8")
        with atomic.new_file(out) as file:
            file.write_text("The names in params.yaml are valid.\n", encoding="utf-8")  # always, so that nothing else runs for it


def _describe(name: str) -> str:
    """Return what decides a backbone's network; the code of the project's own is kept, for what will be trained with it."""
    if not own_code.is_named(name):
        return "a network of a library\n"
    own_code.knows(name.removeprefix(own_code.PREFIX))
    code = own_code.read(own_code.split(name.removeprefix(own_code.PREFIX))[0])
    own_code.keep(code)
    return f"{code.path} sha256 {code.sha256}\n"
