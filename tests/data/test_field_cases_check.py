"""Cases of the field that are found before anything runs: each a row, the file named by `check` and `recipe` alike."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from darkroom import cli
from tests.conftest import ROOT


def draw(kind: str, folder: Path) -> None:
    """Add to a folder of classes what people's folders hold."""
    if kind == "dangling":
        (folder / "cat/gone.jpg").symlink_to("/nonexistent/x.jpg")
    elif kind == "fifo":
        os.mkfifo(folder / "cat/pipe.jpg")
    elif kind == "non-utf8":
        shutil.copy(folder / "cat/0.png", os.fsencode(folder / "cat") + b"/caf\xe9.jpg")


@pytest.mark.parametrize(
    ("kind", "named"), [("dangling", "cat/gone.jpg"), ("fifo", "cat/pipe.jpg"), ("non-utf8", r"cat/caf\xe9.jpg")]
)
def test_check_and_recipe_name_the_file(kind, named, folder, tmp_path, monkeypatch, capsys):
    """What DVC stops at, or waits at for ever, is named with a remedy before params.yaml is written, and by `check` after."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["recipe", "--data", str(folder), "--set", "backbones=[]"]) == 0
    before = (tmp_path / "params.yaml").read_bytes()
    draw(kind, folder)
    for arguments in (["check"], ["recipe", "--data", str(folder)]):
        capsys.readouterr()
        assert cli.main(arguments) == 2
        error = capsys.readouterr().err
        assert named in error
        assert "remedy:" in error
    assert (tmp_path / "params.yaml").read_bytes() == before
