"""What a stage has computed is computed once, and never taken for what something else gives."""

from __future__ import annotations

import errno
from functools import partial

import numpy as np
import pytest

from darkroom.core import kept_results, large_arrays
from darkroom.core.kept_results import KeptResults


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def counted(calls: list[str], key: str, number: float):
    def compute() -> tuple[np.ndarray, ...]:
        calls.append(key)
        return np.full((2, 3), number), np.asarray(number, np.float32)

    return compute


def test_arrays_are_computed_once():
    """A second process gets the same arrays with the same types; another identity computes its own and removes the others."""
    calls: list[str] = []
    first = KeptResults("stage", "a").get("x/y", counted(calls, "a", 0.1))
    second = KeptResults("stage", "a").get("x/y", counted(calls, "a", 0.2))
    assert calls == ["a"]
    for one, other in zip(first, second, strict=True):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        assert one.tobytes() == other.tobytes()
    assert KeptResults("stage", "b").get("x/y", counted(calls, "b", 0.3))[0][0, 0] == 0.3
    assert KeptResults("stage", "a").load("x/y") is None


def test_large_arrays_are_mapped(monkeypatch):
    """Arrays beyond the limit take no memory, neither when they are computed nor when they are read."""
    monkeypatch.setattr(large_arrays, "IN_MEMORY", 100)
    compute = partial(lambda: (large_arrays.zeros((10, 10)), np.empty((0, 3))))
    for arrays in (KeptResults("stage", "a").get("x", compute), KeptResults("stage", "a").load("x")):
        assert isinstance(arrays[0], np.memmap)
        assert arrays[1].shape == (0, 3)


def test_damaged_arrays_are_computed_again():
    """Neither a flipped bit nor half a file is used."""
    calls: list[str] = []
    kept = KeptResults("stage", "a")
    for damage in (lambda content: content[:-1] + bytes([content[-1] ^ 1]), lambda content: content[: len(content) // 2]):
        kept.get("x", counted(calls, "a", 0.1))
        file = kept.folder / "x" / "0.npy"
        file.write_bytes(damage(file.read_bytes()))
        assert "x" not in kept
    assert kept.get("x", counted(calls, "a", 0.1))[0][0, 0] == 0.1


def test_a_full_disk_does_not_end_a_stage(monkeypatch, capsys):
    """Arrays that cannot be written are returned all the same, and it is told."""

    def full(file, array):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    assert KeptResults("stage", "a").get("x", counted([], "a", 0.1))[0][0, 0] == 0.1
    assert "the disk is full" in capsys.readouterr().err


def test_a_later_stage_removes_all_but_its_own():
    """`clear` leaves what the stage itself has kept before it was killed."""
    calls: list[str] = []
    for name in ("mine", "other"):
        KeptResults(name, "a").get("x", counted(calls, name, 0.1))
    (kept_results.folder() / "training.safetensors").write_bytes(b"")
    kept_results.clear(but="mine")
    assert [path.name for path in kept_results.folder().iterdir()] == ["mine"]
    kept_results.clear()
    assert not list(kept_results.folder().iterdir())


def test_the_code_of_rooms_is_part_of_an_identity(tmp_path, monkeypatch):
    """Values, files and code each make a difference."""
    monkeypatch.setattr(kept_results, "PACKAGE", tmp_path)
    (tmp_path / "room").mkdir()
    (code := tmp_path / "room" / "code.py").write_text("1")
    identities = [kept_results.identity("a", rooms=["room"]), kept_results.identity("b", rooms=["room"])]
    identities.append(kept_results.identity("a", files=[code], rooms=["room"]))
    code.write_text("2")
    identities.append(kept_results.identity("a", rooms=["room"]))
    assert len(set(identities)) == 4


def test_a_worktree_keeps_its_own(tmp_path, monkeypatch):
    """A flow in a worktree, which shares `.darkroom`, neither uses nor removes what the project keeps."""
    calls: list[str] = []
    KeptResults("stage", "a").get("x", counted(calls, "main", 0.1))
    (tree := tmp_path / ".darkroom" / "worktrees" / "retrain").mkdir(parents=True)
    (tree / ".darkroom").symlink_to("../..")
    monkeypatch.chdir(tree)
    KeptResults("stage", "b").get("x", counted(calls, "worktree", 0.2))
    kept_results.clear()
    monkeypatch.chdir(tmp_path)
    assert "x" in KeptResults("stage", "a")
    assert calls == ["main", "worktree"]
