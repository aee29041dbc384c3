"""A training that is killed goes on where it was, and ends with the bytes of one that nothing disturbed."""

from __future__ import annotations

import errno
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from darkroom.config.params import Compute, Training
from darkroom.core import kept_results
from darkroom.training import resume as resuming
from darkroom.training.batches import Examples
from darkroom.training.loop import fit
from darkroom.training.resume import Resume
from darkroom.training.stepper import ParamGroup

COMPUTE = Compute(seed=1, threads=1, accelerator="cpu", precision="32-true")
HYPER = Training(
    epochs=6, batch_size=8, optimizer="adamw", lr=0.01, weight_decay=0.1, warmup_epochs=1.0, label_smoothing=0.1,
    class_weights="balanced", patience=6,
)  # fmt: skip


class Killed(BaseException):
    """Ends a training at once, as the signal would."""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Work in an empty folder, where the state of every epoch is worth a file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(resuming, "INTERVAL", 0.0)
    monkeypatch.setattr(resuming, "MAX_SHARE", float("inf"))


def examples(count: int, views: int = 2) -> Examples:
    rng = np.random.default_rng(count)
    labels = rng.integers(0, 3, count)
    return Examples((rng.standard_normal((views, count, 3, 6, 6)) + labels[:, None, None, None]).astype(np.float32), labels)


def network() -> nn.Sequential:
    """Return a network with what has a state: convolution, batch normalisation and dropout."""
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(64, 3)
    return nn.Sequential(*layers).to(memory_format=torch.channels_last)  # as backbones are: optimizers walk the memory


def train(hyper: Training = HYPER, stop_at: int = 0, name: str = "test", **options) -> tuple[nn.Module, object, list[int]]:
    """Return a trained network, its result and the epochs that ran; one that ends in epoch `stop_at` is killed there."""
    model, ran = network(), []

    def on_epoch(row: dict[str, float]) -> None:
        if "images_per_second" in row:  # not of an earlier run
            ran.append(int(row["epoch"]))
            if row["epoch"] == stop_at:
                raise Killed

    groups = None
    if options.get("freeze_statistics"):
        model[0].requires_grad_(False)
        groups = [ParamGroup(list(model[5].parameters())), ParamGroup(list(model[1].parameters()), 0.5)]
    resume = Resume(name) if name else None
    try:
        result = fit(
            model, examples(21), examples(9, 1), hyper, COMPUTE, 3, on_epoch=on_epoch, groups=groups, resume=resume, **options
        )
    except Killed:
        result = None
    return model, result, ran


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.mark.parametrize("options", [{}, {"freeze_statistics": True}], ids=["whole", "last blocks"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_killed_in_any_epoch_the_result_is_that_of_an_undisturbed_run(optimizer, options):
    """Weights, history, best epoch and temperature are equal bit for bit; only the epoch that was killed runs twice."""
    hyper = HYPER.model_copy(update={"optimizer": optimizer})
    uninterrupted, expected, _ = train(hyper, name="", **options)
    for stop_at in (1, 2, 5):
        kept_results.clear()
        assert train(hyper, stop_at, **options)[1] is None
        assert train(hyper, stop_at + 1, **options)[1] is None  # killed once more
        model, result, ran = train(hyper, **options)
        assert same(model, uninterrupted)
        assert replace(result, earlier_seconds=0.0) == expected
        assert result.earlier_seconds > 0
        assert ran == list(range(stop_at + 1, 7))


def test_early_stopping_goes_on():
    """A training that has ended for want of a better epoch trains none when it is run again."""
    hyper = HYPER.model_copy(update={"epochs": 30, "lr": 1.0, "patience": 3})
    uninterrupted, expected, ran = train(hyper)
    assert len(ran) < 30
    model, result, again = train(hyper)
    assert again == []
    assert same(model, uninterrupted)
    assert replace(result, earlier_seconds=0.0) == replace(expected, earlier_seconds=0.0)


def test_the_state_of_another_training_is_not_used():
    """Other params, data or a damaged file make a training begin anew, with the result of its own."""
    for change in ({"lr": 0.02}, {"batch_size": 7}):
        kept_results.clear()
        train(HYPER, 4)
        other = HYPER.model_copy(update=change)
        model, _, ran = train(other)
        assert ran == list(range(1, 7))
        assert same(model, train(other, name="")[0])
    train(HYPER.model_copy(update={"lr": 0.03}), 4)
    file = Resume("test").file
    content = bytearray(file.read_bytes())
    content[-20] ^= 1
    file.write_bytes(content)
    assert train(HYPER.model_copy(update={"lr": 0.03}))[2] == list(range(1, 7))
    with file.open("r+b") as half:
        half.truncate(len(content) // 2)
    assert train(HYPER)[2] == list(range(1, 7))


def test_a_full_disk_does_not_end_a_training(monkeypatch, capsys):
    """A state that cannot be written is told, and the training goes on to its result."""

    def full(tensors, file, metadata):
        raise OSError(errno.ENOSPC, "No space left on device")

    uninterrupted, expected, _ = train(name="")
    monkeypatch.setattr(resuming, "save_file", full)
    model, result, _ = train()
    assert same(model, uninterrupted)
    assert result == expected
    assert "the disk is full" in capsys.readouterr().err
    assert not list(kept_results.folder().iterdir())


def test_short_trainings_write_no_file(monkeypatch):
    """A training of less than a second leaves nothing behind."""
    monkeypatch.setattr(resuming, "INTERVAL", 1000.0)
    train()
    assert not list(kept_results.folder().glob("*"))


@pytest.mark.parametrize(
    ("cost", "epoch", "expected"),
    [
        (0.01, 0.125, 8), (0.01, 1.5, 1),  # INTERVAL
        (0.05, 0.125, 20), (0.05, 3.0, 1),  # MAX_SHARE
        (0.5, 1.0, 5), (2.0, 1.0, 5), (2.0, 5.0, 1), (2.0, 85.0, 1),  # LONGEST: 300 MB, on a fast and on a slow disk
        (8.0, 2.0, 4), (8.0, 8.0, 1),  # a file takes longer
    ],
)  # fmt: skip
def test_a_kill_costs_an_epoch_or_seconds_of_shorter_ones(monkeypatch, cost, epoch, expected):
    """The state is saved after every epoch of five seconds, whatever a file costs; of shorter ones five seconds are at risk, or as
    many as a file takes. Files take at most half of the time, and 2% of it where the state is small."""
    monkeypatch.undo()
    clock = [0.0]
    monkeypatch.setattr(resuming.time, "monotonic", lambda: clock[0])
    resume = Resume("test")
    resume.cost = cost
    epochs = 0
    while not epochs or not resume.is_due(is_last=False):
        epochs += 1
        clock[0] += epoch
    assert epochs == expected
    assert epochs == 1 or (epochs - 1) * epoch < max(resuming.LONGEST, cost)
    assert cost / (cost + clock[0]) <= 0.5


def test_changed_code_begins_anew(monkeypatch, tmp_path):
    """The code of training and of networks is part of what identifies a training."""
    train(HYPER, 4)
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "loop.py").write_text("changed")
    monkeypatch.setattr(kept_results, "PACKAGE", tmp_path)
    assert train()[2] == list(range(1, 7))
