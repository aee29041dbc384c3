"""Two processes on one machine train as one does, and end together."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pytest

from darkroom.config.params import Compute
from darkroom.core import ranks
from darkroom.core.errors import DarkroomError
from darkroom.training import embedding
from tests.training import two_processes

ONE = Compute(seed=1, threads=1, accelerator="cpu", precision="32-true")
TOLERANCE = 1e-6  # of weights, relative to the largest: sums in another order


def launch(folder: Path, part: str) -> None:
    assert ranks.launch([sys.executable, two_processes.__file__, str(folder), part], 2) == 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Return a folder with what two processes have written: until one was killed, and when they were started again."""
    path = tmp_path_factory.mktemp("processes")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2] / "src"))
        started = time.monotonic()
        with pytest.raises(DarkroomError, match="process 2 of 2 was ended by SIGKILL") as caught:
            launch(path, "first")
        assert "goes on from the last epoch" in caught.value.remedy
        assert time.monotonic() - started < 60
        launch(path, "then")
    return path


def load(folder: Path, name: str) -> dict[str, np.ndarray]:
    return dict(np.load(folder / f"{name}.npz"))


def difference(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    assert one.keys() == other.keys()
    return max(float(np.abs(one[key] - other[key]).max() / max(np.abs(one[key]).max(), 1)) for key in one)


@pytest.mark.slow
def test_every_example_once_an_epoch(folder):
    """The parts of an epoch's batches hold every example once; a process reads no example of another."""
    parts = [np.load(folder / f"seen-{rank}.npy") for rank in (0, 1)]
    epochs = two_processes.HYPER.epochs
    assert np.bincount(np.concatenate(parts), minlength=21).tolist() == [epochs] * 21
    assert min(map(len, parts)) >= epochs * 10


@pytest.mark.slow
def test_two_processes_train_as_one(folder):
    """Weights, history and temperature are those of one process up to rounding, and of both processes bit for bit."""
    expected = two_processes.cases(ONE)
    for name in ("head", "frozen", "single"):
        first, second = (load(folder, f"{name}-{rank}") for rank in (0, 1))
        assert difference(first, second) == 0, name
        assert difference(first, expected[name]) < TOLERANCE, name


@pytest.mark.slow
def test_two_processes_embed_into_one_array(folder):
    """Each fills its range, to the bytes of one process, also where one has no batch; stopped, each goes on where it was."""
    for name, views in (("embedded", two_processes.VIEWS), ("few", two_processes.VIEWS[:1, :2]), ("stopped", two_processes.VIEWS)):
        expected = embedding.run_network(two_processes.Engine(), views, "test", (None, None))
        for number, array in enumerate(expected):
            assert np.array_equal(np.load(folder / name / f"{number}.npy"), array), name
    assert [int(np.load(folder / f"batches-{rank}.npy")) for rank in (0, 1)] == [3, 2]  # of four each


@pytest.mark.slow
def test_killed_and_started_again_two_processes_end_as_undisturbed(folder):
    """After a kill they go on from the last epoch, with the random numbers of each, to the same bytes."""
    resumed = load(folder, "resumed-0")
    lengths = resumed.pop("epochs").tolist()
    assert len(set(lengths[:1])) == 1
    assert lengths[0] < lengths[-1]  # an epoch of the earlier run has no speed
    assert difference(resumed, load(folder, "dropout-0")) == 0


@pytest.mark.slow
def test_batch_normalisation_that_learns_trains_in_one_process(folder):
    """The first process trains alone where batch normalisation learns its statistics, to the bytes of one process."""
    assert not (folder / "statistics-1.npz").exists()
    expected = two_processes.train(two_processes.network(), two_processes.HYPER, ONE, frozen=False)
    assert difference(load(folder, "statistics-0"), expected) == 0
