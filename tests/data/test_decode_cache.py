"""The cache of decoded images changes the time that ingest takes, never its result."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from darkroom.data import decoding
from darkroom.data import ingest as room
from darkroom.data.decode_cache import MAX_FOLDERS, DecodeCache, open_cache
from darkroom.data.manifest import ImageFacts
from tests.data.test_ingest import columns, elsewhere, options, read  # noqa: F401


def picture(seed: int, size: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)


def content(data) -> tuple:
    return columns(data), {name: (images.tobytes(), labels.tobytes()) for name, (images, labels) in data.loaded.items()}


def count_decoded(monkeypatch) -> list[int]:
    """Return a list that grows by one for each file that is decoded."""
    calls, real = [], decoding.decode
    monkeypatch.setattr(decoding, "decode", lambda *a: calls.append(1) or real(*a))
    return calls


def test_an_image_is_decoded_once(folder, monkeypatch):
    """A second run decodes new files alone, and its result is that of a run without a cache."""
    read(folder)
    calls = count_decoded(monkeypatch)
    Image.fromarray(picture(1, 30)).save(folder / "cat" / "new.png")
    (folder / "dog" / "broken.png").write_bytes(b"\x89PNG broken")
    (folder / "dog" / "0.png").rename(folder / "dog" / "renamed.png")
    warm = content(read(folder))
    assert len(calls) == 2
    shutil.rmtree(folder.parent / "cache")
    assert content(read(folder)) == warm
    assert len(calls) == 2 + 62


@pytest.mark.parametrize("damage", ["pixels", "fingerprints", "index", "rows", "half"])
def test_damage_to_the_cache_changes_nothing(folder, damage):
    """Flipped bytes in any of its files, an index that is no database, a file cut short: the result is that
    of a cold run.
    """
    for i in range(6):
        Image.fromarray(picture(i, 90)).save(folder / "cat" / f"large{i}.png")
    cold = content(read(folder))
    inside = next(path for path in (folder.parent / "cache").iterdir() if path.is_dir())
    if damage == "index":
        (inside / "index.sqlite").write_bytes(b"no index" * 1000)
    elif damage == "rows":
        with sqlite3.connect(inside / "index.sqlite") as index:
            index.execute("UPDATE images SET facts = replace(facts, 'accepted', 'quarantined')")
    else:
        file = inside / {"half": "pixels.bin"}.get(damage, f"{damage}.bin")
        damaged = bytearray(file.read_bytes())
        damaged[::97] = bytes(255 - byte for byte in damaged[::97])
        file.write_bytes(damaged[: len(damaged) // 2] if damage == "half" else damaged)
    assert content(read(folder)) == cold


def test_any_damage_to_the_index_is_survived(folder):
    """Random bytes anywhere in the index, and impossible slots, neither stop a run nor change its result."""
    cold = content(read(folder))
    inside = next(path for path in (folder.parent / "cache").iterdir() if path.is_dir())
    sound, draw = (inside / "index.sqlite").read_bytes(), np.random.default_rng(0)
    for _ in range(15):
        damaged = bytearray(sound)
        for at in draw.integers(0, len(damaged), 200):
            damaged[at] = int(draw.integers(256))
        (inside / "index.sqlite").write_bytes(damaged)
        assert content(read(folder)) == cold
    for slot in (2**36, -5):
        with sqlite3.connect(inside / "index.sqlite") as index:
            index.execute("UPDATE images SET slot = ? WHERE slot = 3", (slot,))
        assert content(read(folder)) == cold


def test_a_killed_run_leaves_what_it_had_decoded(tmp_path):
    """Entries that were written before the process was killed are whole or absent."""
    pid = os.fork()
    if pid == 0:
        cache = DecodeCache(tmp_path, 16)
        for i in range(1500):
            cache.put(str(i), picture(i), None, ImageFacts(width=i))
        os._exit(1)
    os.waitpid(pid, 0)
    cache = DecodeCache(tmp_path, 16)
    entries = [cache.get(str(i)) for i in range(1500)]
    assert sum(entry is not None for entry in entries) >= 1000
    for i, entry in enumerate(entries):
        if entry is not None:
            assert entry.facts.width == i
            assert (cache.pixels(entry.slot) == picture(i)).all()
    cache.close()


def test_slots_of_absent_files_are_used_again(tmp_path):
    """When more than half of the entries belong to files that are gone, the cache does not grow."""
    for turn in range(5):
        cache = DecodeCache(tmp_path, 16)
        keys = {f"{turn}-{i}" for i in range(100)}
        for i, key in enumerate(sorted(keys)):
            cache.put(key, picture(turn * 100 + i), None, ImageFacts())
        cache.prune(keys)
        for i, key in enumerate(sorted(keys)):
            assert (cache.pixels(cache.get(key).slot) == picture(turn * 100 + i)).all()
        cache.close()
    assert (tmp_path / "pixels.bin").stat().st_size <= 300 * 16 * 16 * 3


def test_other_params_have_another_folder(tmp_path):
    """Another size, background or way to resize has a folder of its own; the oldest are removed."""
    for i in range(MAX_FOLDERS + 2):
        with open_cache(tmp_path, options(background=(i, 0, 0))) as cache:
            assert cache.get("x") is None
            cache.put("x", picture(i), None, ImageFacts())
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == MAX_FOLDERS
    with open_cache(tmp_path, options(background=(MAX_FOLDERS + 1, 0, 0))) as cache:
        assert cache.get("x") is not None


def test_pixels_are_written_as_numpy_reads_them(folder, tmp_path):
    """The arrays on disk are those in memory, row by row in the order of the manifest."""
    with room.ingest(folder, options(), cache_folder=tmp_path / "cache") as data:
        data.write("train", tmp_path)
        images, labels = data.arrays("train")
    assert (np.load(tmp_path / "images.npy") == images).all()
    assert (np.load(tmp_path / "labels.npy") == labels).all()
    assert Path(tmp_path / "images.npy").stat().st_size == 128 + images.nbytes


@pytest.mark.parametrize("moment", ["put", "close"])
def test_damage_that_is_noticed_while_writing_is_survived(tmp_path, moment):
    """Where SQLite finds the index malformed as it writes, the index begins anew: the run goes on, and the next one too."""

    class Malformed(sqlite3.Connection):
        def execute(self, *arguments):
            if moment == "put" and arguments[0].startswith("INSERT"):
                raise sqlite3.DatabaseError("database disk image is malformed")
            return super().execute(*arguments)

        def commit(self):
            raise sqlite3.DatabaseError("database disk image is malformed")

    cache = DecodeCache(tmp_path, 16)
    cache.index.close()
    cache.index = sqlite3.connect(cache.path, factory=Malformed)
    cache.put("1", picture(1), None, ImageFacts(width=1))
    cache.close()
    cache = DecodeCache(tmp_path, 16)
    assert (cache.get("1") is not None) == (moment == "put")
    cache.put("2", picture(2), None, ImageFacts(width=2))
    assert cache.get("2") is not None
    cache.close()
