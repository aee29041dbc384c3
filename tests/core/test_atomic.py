"""Outputs are whole or absent, whenever their writer is killed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from darkroom.core import atomic

# Writes PLACE/<number>/out once for each number, in a child process that is killed before that file operation.
KILLED = """
import os, signal, sys
from pathlib import Path
from darkroom.core import atomic

OPERATIONS = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "open", "tempfile.mkdtemp", "shutil.rmtree", "fcntl.flock"}
place, kind = Path(sys.argv[1]), sys.argv[2]

def write(path, content):
    if kind == "file":
        with atomic.new_file(path) as working:
            working.write_text(content)
        return
    with atomic.new_folder(path) as folder:
        for name in ("a", "b"):
            (folder / name).write_text(content)

for number in range(1000):
    path = place / str(number) / "out"
    path.parent.mkdir(parents=True)
    if kind != "nothing":
        write(path, "old")
    child = os.fork()
    if child == 0:
        count = 0
        def hook(event, arguments):
            global count
            if event in OPERATIONS:
                if count == number:
                    os.kill(os.getpid(), signal.SIGKILL)
                count += 1
        sys.addaudithook(hook)
        write(path, "new")
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
"""


def write(path: Path, content: str) -> None:
    with atomic.new_folder(path) as folder:
        for name in ("a", "b"):
            (folder / name).write_text(content)


def content(path: Path) -> str | None:
    """Return the content of a file, or of a folder's two files, which must be one.

    None where there is nothing.
    """
    if not path.exists():
        return None
    (text,) = {file.read_text() for file in ([path / "a", path / "b"] if path.is_dir() else [path])}
    return text


@pytest.mark.parametrize(("kind", "before"), [("folder", "old"), ("nothing", None), ("file", "old")])
def test_a_kill_before_any_step_loses_nothing(tmp_path, kind, before):
    """Whatever file operation it is killed before, a writer leaves the old or the new output, or `recover`
    puts it there.
    """
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "killed"), kind], check=True)
    outcomes = []
    for number in range(len(list((tmp_path / "killed").iterdir()))):
        path = tmp_path / "killed" / str(number) / "out"
        scratch = atomic.scratch_folders(path.parent)
        assert {item.name for item in path.parent.iterdir()} <= {"out", *(item.name for item in scratch)}
        again = tmp_path / "again" / str(number) / "out"
        shutil.copytree(path.parent, again.parent)
        for folder in scratch:
            assert folder.name.endswith(".partial")  # DVC ignores it
            assert atomic.is_abandoned(folder)
            atomic.recover(folder)
        assert atomic.scratch_folders(path.parent) == []
        outcomes.append(content(path))
        if kind != "file":  # the next writer recovers by itself
            write(again, "newer")
            assert content(again) == "newer"
            assert atomic.scratch_folders(again.parent) == []
    switch = outcomes.index("new")
    assert outcomes == [before] * switch + ["new"] * (len(outcomes) - switch)
    assert min(switch, len(outcomes) - switch) > 3


def test_the_next_writer_finishes_a_swap_even_if_it_fails(tmp_path):
    """A folder that a killed writer had moved aside is replaced by the new one before the next block begins."""
    path, scratch = tmp_path / "out", tmp_path / ".out.a_b1.partial"
    for name in ("old", "new"):
        write(scratch / name, name)
    with suppress(RuntimeError), atomic.new_folder(path):
        assert content(path) == "new"
        raise RuntimeError
    assert content(path) == "new"
    assert [item.name for item in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_block_that_fails_changes_nothing(tmp_path, error):
    """The old output stays as it is, and nothing is left beside it."""
    write(tmp_path / "out", "old")
    with suppress(error), atomic.new_folder(tmp_path / "out") as folder:
        (folder / "a").write_text("new")
        raise error
    with suppress(error), atomic.new_file(tmp_path / "out" / "a") as working:
        working.write_text("new")
        raise error
    assert content(tmp_path / "out") == "old"
    assert [item.name for item in tmp_path.rglob("*")].count("a") == 1


@pytest.mark.parametrize("failing", [1, 2])
def test_an_interrupt_between_the_renames_loses_nothing(tmp_path, failing, monkeypatch):
    """A signal handler that raises at a rename leaves the old folder or the new one."""
    write(tmp_path / "out", "old")
    calls, rename = [], Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == failing:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "out", "new")
    assert content(tmp_path / "out") == ("old" if failing == 1 else "new")
    assert [item.name for item in tmp_path.iterdir()] == ["out"]


def test_the_scratch_folder_of_a_living_writer_is_left_alone(tmp_path):
    """Neither another writer of the same path nor `recover` touches what a writer is at."""
    with atomic.new_folder(tmp_path / "out") as folder:
        (scratch,) = atomic.scratch_folders(tmp_path)
        assert not atomic.is_abandoned(scratch)
        atomic.recover(scratch)
        write(tmp_path / "out", "theirs")
        for name in ("a", "b"):
            (folder / name).write_text("ours")
    assert content(tmp_path / "out") == "ours"


def test_a_scratch_folder_may_be_removed_before_it_is_locked(tmp_path, monkeypatch):
    """`darkroom tidy` can see the folder in the instant before its writer locks it."""
    make = atomic.tempfile.mkdtemp

    def removed(**options: object) -> str:
        scratch = make(**options)
        atomic.recover(Path(scratch))
        return scratch

    monkeypatch.setattr(atomic.tempfile, "mkdtemp", removed)
    write(tmp_path / "out", "new")
    assert content(tmp_path / "out") == "new"
    assert [item.name for item in tmp_path.iterdir()] == ["out"]


def test_a_link_is_replaced_and_not_followed(tmp_path):
    """An output that is a link to a folder elsewhere is replaced by a folder.

    The folder elsewhere keeps its files.
    """
    write(tmp_path / "elsewhere", "old")
    (tmp_path / "out").symlink_to(tmp_path / "elsewhere")
    write(tmp_path / "out", "new")
    assert content(tmp_path / "out") == "new"
    assert content(tmp_path / "elsewhere") == "old"
    assert not (tmp_path / "out").is_symlink()


def left_by(machine: str, folder: Path) -> Path:
    """Return a scratch folder of `out` as a killed writer of a machine leaves it."""
    scratch = folder / f".out.{machine}abc_1234.partial"
    write(scratch / "new", "half")
    (scratch / "lock").touch()
    return scratch


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_the_next_writer_removes_what_a_killed_one_left(tmp_path, kind):
    """Left-overs of the same path are gone, whichever is written; those of other paths are not its business."""
    left_by(atomic.MACHINE, tmp_path)
    (other := tmp_path / ".other.abc_1234.partial").mkdir()
    if kind == "folder":
        write(tmp_path / "out", "new")
    else:
        atomic.write_json(tmp_path / "out", 1)
    assert {path.name for path in tmp_path.iterdir()} == {"out", other.name}


def test_what_another_machine_may_be_writing_is_left_alone(tmp_path):
    """On a shared disk its lock may not be seen; a day after its last write it is a left-over."""
    scratch = left_by("0" * 8, tmp_path)
    assert atomic.MACHINE != "0" * 8
    atomic.recover(scratch)
    write(tmp_path / "out", "new")
    assert not atomic.is_abandoned(scratch)
    assert scratch.exists()
    for path in (scratch, *scratch.rglob("*")):
        os.utime(path, (0, time.time() - atomic.FOREIGN_AGE - 60))
    os.utime(scratch / "new" / "a")  # it has written there meanwhile
    atomic.recover(scratch)
    assert scratch.exists()
    os.utime(scratch / "new" / "a", (0, 0))
    atomic.recover(scratch)
    assert not scratch.exists()


def test_a_sweep_takes_left_overs_alone(tmp_path):
    """What a living writer is at stays, and so does what has no lock, which may be a person's."""
    dead, mine = left_by(atomic.MACHINE, tmp_path), tmp_path / ".my.notes.partial"
    mine.mkdir()
    with atomic.new_folder(tmp_path / "living") as folder:
        atomic.sweep([tmp_path, tmp_path / "not there"])
        assert folder.exists()
        assert not dead.exists()
        assert mine.exists()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_content_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch, kind):
    """After a power failure a name never stands for an empty file: files, their folder, the rename, the folder around it."""
    events: list[str] = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (events.append(Path(os.readlink(f"/proc/self/fd/{file}")).name), fsync(file))[1])
    for name in ("rename", "replace"):
        original = getattr(Path, name)

        def renamed(self, target, original=original):
            events.append("renamed")
            return original(self, target)

        monkeypatch.setattr(Path, name, renamed)
    if kind == "folder":
        write(tmp_path / "out", "new")
        assert events.index("renamed") > max(map(events.index, ("a", "b", "new")))
    else:
        atomic.write_json(tmp_path / "out", 1)
        assert events[:2] == ["new", "renamed"]
    assert events[-1] == tmp_path.name
