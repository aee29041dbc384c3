"""What a frozen network has computed before a kill is not computed again."""

from __future__ import annotations

import numpy as np
import pytest

from darkroom.training import blocks as blocks_module
from darkroom.training import embedding
from darkroom.training.blocks import Blocks

VIEWS = np.random.default_rng(0).integers(0, 256, (2, 11, 4, 4, 3), np.uint8)


class Engine:
    """A network with two outputs that is killed at a batch."""

    name, batch = "test", 3

    def __init__(self, kill_at: int = 1000) -> None:
        self.kill_at, self.count = kill_at, 0

    def stream(self, inputs):
        for images in inputs:
            if self.count == self.kill_at:
                raise KeyboardInterrupt
            self.count += 1
            yield images.mean((2, 3), dtype=np.float32), images.astype(np.float32).transpose(0, 3, 1, 2)


def run(folder, kill_at: int = 1000) -> tuple[list[np.ndarray], int]:
    """Return what is there after a run, and how many batches ran."""
    engine, blocks = Engine(kill_at), Blocks(folder)
    try:
        return [np.array(array) for array in embedding.run_network(engine, VIEWS, "test", blocks=blocks)], engine.count
    except KeyboardInterrupt:
        return [], engine.count


@pytest.fixture(autouse=True)
def each_batch_is_a_block(monkeypatch):
    monkeypatch.setattr(blocks_module, "INTERVAL", 0.0)


def test_a_run_after_a_kill_goes_on(tmp_path):
    """Killed at any batch, the outputs are those of an undisturbed run, and no batch runs twice."""
    expected = embedding.run_network(Engine(), VIEWS, "test", (None, None))
    for kill_at in range(9):
        folder = tmp_path / str(kill_at)
        run(folder, kill_at)
        outputs, count = run(folder)
        assert all(np.array_equal(a, b) for a, b in zip(outputs, expected, strict=True))
        assert count == 8 - min(kill_at, 8)
        assert run(folder)[1] == 0


def test_a_damaged_block_is_computed_again(tmp_path):
    """What follows the last block that is whole is computed again; without a log everything is."""
    expected, _ = run(tmp_path)
    array = np.load(tmp_path / "1.npy", mmap_mode="r+")
    array[1, 4] += 1  # in the sixth batch
    array.flush()
    outputs, count = run(tmp_path)
    assert all(np.array_equal(a, b) for a, b in zip(outputs, expected, strict=True))
    assert count == 3
    (tmp_path / blocks_module.LOG).write_text("")
    assert run(tmp_path)[1] == 8


def test_blocks_take_their_time(tmp_path, monkeypatch):
    """A block is written after some seconds, and at the end."""
    monkeypatch.setattr(blocks_module, "INTERVAL", 1000.0)
    run(tmp_path, 7)
    assert run(tmp_path)[1] == 8
    assert len((tmp_path / blocks_module.LOG).read_text().splitlines()) == 2
