"""What is remembered changes the time that ingest takes, never what it gives."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from darkroom.data import decoding
from darkroom.data.decode_cache import KEPT, Store, opened
from tests.data.test_ingest import elsewhere, read  # noqa: F401


def picture(seed: int, size: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)


def content(data) -> tuple:
    return [str(row.columns()) for row in data.rows], {name: (a.tobytes(), b.tobytes()) for name, (a, b) in data.loaded.items()}


def decoded(monkeypatch) -> list[int]:
    """Return a list that grows by one for each file that is decoded."""
    calls, real = [], decoding.decode
    monkeypatch.setattr(decoding, "decode", lambda *a: calls.append(1) or real(*a))
    return calls


def test_what_was_decoded_once_is_not_decoded_again(folder, monkeypatch):
    """A second run decodes new files alone, and gives the bytes of a run that remembers nothing."""
    read(folder)
    calls = decoded(monkeypatch)
    Image.fromarray(picture(1, 30)).save(folder / "cat" / "new.png")
    (folder / "dog" / "broken.png").write_bytes(b"\x89PNG broken")
    (folder / "dog" / "0.png").rename(folder / "dog" / "renamed.png")
    warm = content(read(folder))
    assert len(calls) == 2
    shutil.rmtree(folder.parent / "remembered")
    assert content(read(folder)) == warm
    assert len(calls) == 2 + 62


@pytest.mark.parametrize("damage", ["pixels", "thumbnails", "index", "rows", "half"])
def test_damage_to_what_is_remembered_changes_nothing(folder, damage):
    """Flipped bytes in any of its files, an index that is no index, a file cut short: the bytes are those of a cold run."""
    for i in range(6):
        Image.fromarray(picture(i, 90)).save(folder / "cat" / f"large{i}.png")
    cold = content(read(folder))
    inside = next(path for path in (folder.parent / "remembered").iterdir() if path.is_dir())
    if damage == "index":
        (inside / "index.sqlite").write_bytes(b"no index" * 1000)
    elif damage == "rows":
        with sqlite3.connect(inside / "index.sqlite") as index:
            index.execute("UPDATE images SET facts = replace(facts, 'accepted', 'quarantined')")
    else:
        file = inside / {"half": "pixels.bin"}.get(damage, f"{damage}.bin")
        held = bytearray(file.read_bytes())
        held[::97] = bytes(255 - byte for byte in held[::97])
        file.write_bytes(held[: len(held) // 2] if damage == "half" else held)
    assert content(read(folder)) == cold


def test_any_damage_to_the_index_is_survived(folder):
    """Random bytes anywhere in the index, and slots that cannot be, never stop a run nor change what it gives."""
    cold = content(read(folder))
    inside = next(path for path in (folder.parent / "remembered").iterdir() if path.is_dir())
    sound, draw = (inside / "index.sqlite").read_bytes(), np.random.default_rng(0)
    for _ in range(15):
        held = bytearray(sound)
        for at in draw.integers(0, len(held), 200):
            held[at] = int(draw.integers(256))
        (inside / "index.sqlite").write_bytes(held)
        assert content(read(folder)) == cold
    for slot in (2**36, -5):
        with sqlite3.connect(inside / "index.sqlite") as index:
            index.execute("UPDATE images SET slot = ? WHERE slot = 3", (slot,))
        assert content(read(folder)) == cold


def test_a_killed_run_leaves_what_it_had_decoded(tmp_path):
    """Records that were written before the process ended without a word are found again, or are not there: never half."""
    pid = os.fork()
    if pid == 0:
        store = Store(tmp_path, 16)
        for i in range(1500):
            store.put(str(i), picture(i), None, {"n": i})
        os._exit(1)
    os.waitpid(pid, 0)
    store = Store(tmp_path, 16)
    known = [store.get(str(i)) for i in range(1500)]
    assert sum(entry is not None for entry in known) >= 1000
    for i, entry in enumerate(known):
        if entry is not None:
            assert entry.facts == {"n": i}
            assert (store.pixels(entry.slot) == picture(i)).all()
    store.close()


def test_what_is_no_longer_there_is_forgotten(tmp_path):
    """Where more than half belongs to files that are gone, their slots are used again: the files do not grow for ever."""
    for turn in range(5):
        store = Store(tmp_path, 16)
        keys = {f"{turn}-{i}" for i in range(100)}
        for i, key in enumerate(sorted(keys)):
            store.put(key, picture(turn * 100 + i), None, {})
        store.keep(keys)
        for i, key in enumerate(sorted(keys)):
            assert (store.pixels(store.get(key).slot) == picture(turn * 100 + i)).all()
        store.close()
    assert (tmp_path / "pixels.bin").stat().st_size <= 300 * 16 * 16 * 3


def test_settings_do_not_share_what_they_remember(tmp_path):
    """Another size, background or way to resize has a folder of its own; the oldest are removed."""
    for i in range(KEPT + 2):
        with opened(tmp_path, 16, {"background": i}) as store:
            assert store.get("x") is None
            store.put("x", picture(i), None, {})
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == KEPT
    with opened(tmp_path, 16, {"background": KEPT + 1}) as store:
        assert store.get("x") is not None


def test_pixels_are_written_as_numpy_reads_them(folder, tmp_path):
    """The arrays on disk are those in memory, row by row in the order of the manifest."""
    from darkroom.data import ingest as room
    from tests.data.test_ingest import options

    with room.ingest(folder, options(), remembered=tmp_path / "remembered") as data:
        data.write("train", tmp_path)
        images, labels = data.arrays("train")
    assert (np.load(tmp_path / "images.npy") == images).all()
    assert (np.load(tmp_path / "labels.npy") == labels).all()
    assert Path(tmp_path / "images.npy").stat().st_size == 128 + images.nbytes
