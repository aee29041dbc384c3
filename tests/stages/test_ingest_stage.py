"""The stage ingest never leaves an image out in silence, whatever happens to the source while it reads."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from darkroom.core.errors import EX_TEMPFAIL, SourceError
from darkroom.data import ingest as room
from darkroom.data import manifest
from darkroom.stages import ingest
from tests.conftest import ROOT


@pytest.fixture
def run(folder, tmp_path, monkeypatch):
    """Return a function that runs the stage on a folder, and calls another one each time that all files are read."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DARKROOM_TRACKING", "off")
    text = (ROOT / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(text.replace("source: data/raw/digits", "source: photos"))
    assert "source: photos" in (tmp_path / "params.yaml").read_text()
    check = room.check

    def run(happens):
        def checked(*arguments):
            happens()
            check(*arguments)

        monkeypatch.setattr(room, "check", checked)
        ingest.run(Path("out"), Path("data.html"), Path("label_fixes.csv"))
        return {row.path for row in manifest.read(Path("out/manifest.parquet"))}

    return run


def once(action):
    """Return a function that does something the first time that it is called."""
    todo = [action]
    return lambda: todo.pop()() if todo else None


def added() -> None:
    shutil.copy("photos/cat/0.png", "photos/cat/new.png")


def removed() -> None:
    Path("photos/cat/7.png").unlink()


def renamed() -> None:
    Path("photos/cat/7.png").rename("photos/cat/new.png")


def changed() -> None:
    stamp = os.stat("photos/cat/7.png")
    shutil.copyfile("photos/dog/7.png", "photos/cat/7.png")
    os.utime("photos/cat/7.png", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # as a copy that keeps the time


@pytest.mark.parametrize("action", [added, removed, renamed, changed])
def test_what_happens_while_files_are_read_is_part_of_the_result(run, capsys, action):
    """A file that was added, removed, renamed or changed meanwhile makes the stage read the source again, and say so."""
    paths = run(once(action))
    assert paths == {path.relative_to("photos").as_posix() for path in Path("photos").rglob("*.png")}
    assert "changed while they were read" in capsys.readouterr().out
    content = next(row for row in manifest.read(Path("out/manifest.parquet")) if row.path == "dog/7.png").sha256
    twin = [row for row in manifest.read(Path("out/manifest.parquet")) if row.sha256 == content]
    assert len(twin) == (2 if action is changed else 1)


def test_a_source_that_never_rests_is_refused_for_now(run, tmp_path):
    """Where files come faster than they are read, the stage ends with code 75 and the former output stays."""
    before = run(lambda: None)
    count = iter(range(100))
    with pytest.raises(SourceError, match="changed each of the 3 times") as caught:
        run(lambda: shutil.copy("photos/cat/0.png", f"photos/cat/new{next(count)}.png"))
    assert caught.value.code == EX_TEMPFAIL
    assert {row.path for row in manifest.read(Path("out/manifest.parquet"))} == before
    assert not list(tmp_path.glob(".*.partial"))


def test_a_damaged_manifest_is_replaced(run, capsys):
    """The manifest of the run before, which DVC leaves in place, may be damaged: the stage says so, and writes it anew."""
    paths = run(lambda: None)
    original = Path("out/manifest.parquet").read_bytes()
    Path("out/manifest.parquet").write_bytes(bytes(len(original)))
    assert run(lambda: None) == paths
    assert Path("out/manifest.parquet").read_bytes() == original
    assert "is damaged" in capsys.readouterr().out
