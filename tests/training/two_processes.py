"""What `test_processes` runs in two processes, and again in one: `two_processes.py FOLDER PART`, started by `ranks.launch`."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from darkroom.config.params import Compute, Training
from darkroom.core import ranks
from darkroom.training import blocks as blocks_module
from darkroom.training import embedding, processes
from darkroom.training import resume as resuming
from darkroom.training.batches import Examples
from darkroom.training.blocks import Blocks
from darkroom.training.loop import fit
from darkroom.training.resume import Resume

HYPER = Training(
    epochs=3, batch_size=8, optimizer="adamw", lr=0.01, weight_decay=0.1, warmup_epochs=1.0, label_smoothing=0.1,
    class_weights="balanced", patience=6,
)  # fmt: skip
SGD = HYPER.model_copy(update={"optimizer": "sgd"})
KILLED_IN = 2  # the epoch in which the second process is killed


class SeenView:
    """A view that notes which of its examples were asked for."""

    def __init__(self, view: np.ndarray, seen: list[int]) -> None:
        self.view, self.seen, self.shape = view, seen, view.shape

    def __len__(self) -> int:
        return len(self.view)

    def __getitem__(self, batch: Any) -> np.ndarray:
        self.seen += np.atleast_1d(batch).tolist()
        return self.view[batch]


class SeenViews:
    """One view, as `fit` takes views."""

    def __init__(self, view: np.ndarray) -> None:
        self.seen: list[int] = []
        self.shape, self.view = (1, *view.shape), SeenView(view, self.seen)

    def __len__(self) -> int:
        return 1

    def __getitem__(self, number: int) -> SeenView:
        return self.view


def examples(count: int, *shape: int) -> Examples:
    rng = np.random.default_rng(count)
    labels = rng.integers(0, 3, count)
    inputs = rng.standard_normal((2, count, *shape)) + labels.reshape(1, count, *(1 for _ in shape))
    return Examples(inputs.astype(np.float32), labels)


def network(dropout: float = 0.0) -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(dropout), nn.Linear(64, 3)
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)


def head() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(5, 3)


def result(model: nn.Module, fitted: Any) -> dict[str, np.ndarray]:
    """Return the weights, the history and the temperature as arrays."""
    history = np.array([[row[key] for key in sorted(row)] for row in fitted.history])
    arrays = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    return {**arrays, "history": history, "temperature": np.array(fitted.temperature)}


def train(
    model: nn.Module, hyper: Training, compute: Compute, count: int = 21, frozen: bool = True, **options: Any
) -> dict[str, Any]:
    shape = (5,) if isinstance(model, nn.Linear) else (3, 6, 6)
    train, val = examples(count, *shape), examples(max(1, count // 2), *shape)
    return result(model, fit(model, train, val, hyper, compute, 3, freeze_statistics=frozen, **options))


def cases(compute: Compute) -> dict[str, dict[str, Any]]:
    """Return the results of trainings, also of one with a single example, of which one process has none."""
    return {
        "head": train(head(), HYPER, compute),
        "frozen": train(network(), SGD, compute),
        "single": train(head(), SGD, compute, count=1),
        "dropout": train(network(0.3), HYPER, compute),
    }


def seen_examples(compute: Compute) -> list[int]:
    """Return which training examples this process has read in the epochs of a training."""
    chosen = examples(21, 5)
    views = SeenViews(chosen.inputs[0])
    fit(head(), Examples(views, chosen.labels), examples(9, 5), HYPER, compute, 3)
    return views.seen


VIEWS = np.random.default_rng(0).integers(0, 256, (2, 11, 4, 4, 3), np.uint8)


class Engine:
    """A frozen network with two outputs, that is stopped at a batch."""

    name, batch = "test", 3

    def __init__(self, stop_at: int = 1000) -> None:
        self.stop_at, self.count = stop_at, 0

    def stream(self, inputs: Any) -> Any:
        for images in inputs:
            if self.count == self.stop_at:
                raise KeyboardInterrupt
            self.count += 1
            yield images.mean((2, 3), dtype=np.float32), images.astype(np.float32).transpose(0, 3, 1, 2)


def embed(folder: Path, engine: Engine, views: np.ndarray = VIEWS) -> None:
    with suppress(KeyboardInterrupt):
        embedding.run_network(engine, views, "test", blocks=Blocks(folder))


def kill(row: dict[str, float]) -> None:
    if row["epoch"] == KILLED_IN and processes.rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def main(folder: Path, part: str) -> None:
    compute = Compute(seed=1, threads=1, accelerator="cpu", precision="32-true", processes=2)
    resuming.INTERVAL, resuming.MAX_SHARE = 0.0, float("inf")
    blocks_module.INTERVAL = 0.0
    with ranks.member():
        processes.join(compute)
        if part == "first":
            np.save(folder / f"seen-{processes.rank()}.npy", seen_examples(compute))
            for name, arrays in cases(compute).items():
                np.savez(folder / f"{name}-{processes.rank()}.npz", **arrays)
            embed(folder / "embedded", Engine())
            embed(folder / "few", Engine(), VIEWS[:1, :2])  # one batch: a process has none
            with processes.first_alone("maps") as is_first:  # the other waits
                if is_first:
                    np.save(folder / "maps.npy", embedding.run_network(Engine(), VIEWS, "test", (None, None))[0])
            assert np.load(folder / "maps.npy").shape == (2, 11, 4)
            embed(folder / "stopped", Engine(stop_at=1 + processes.rank()))
            train(network(0.3), HYPER, compute, resume=Resume("killed"), on_epoch=kill)
        if part == "then":
            engine, epochs = Engine(), list[float]()
            embed(folder / "stopped", engine)
            np.save(folder / f"batches-{processes.rank()}.npy", engine.count)
            resumed = train(network(0.3), HYPER, compute, resume=Resume("killed"), on_epoch=lambda row: epochs.append(len(row)))
            np.savez(folder / f"resumed-{processes.rank()}.npz", **resumed, epochs=epochs)
            statistics = train(network(), HYPER, compute, frozen=False)
            np.savez(folder / f"statistics-{processes.rank()}.npz", **statistics)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
