"""The training of a run: alone, in a stack, and as the pipeline trains."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from torch import nn

from darkroom.config.params import Compute, Training
from darkroom.studies import trainer, vectorized
from darkroom.studies.initial_weights import build_network
from darkroom.studies.probes import probe
from darkroom.studies.run_config import RunConfig
from darkroom.studies.samples import SampleLoader
from darkroom.training.batches import Examples
from darkroom.training.loop import fit

MLP = RunConfig("mlp", "kaiming", 0, "mlp", {"hidden": [12, 8]}, "kaiming", steps=9, batch_size=16, lr=0.05, eval_points=3)
CNN = replace(MLP, comparison="cnn", architecture="lenet5", options={"activation": "relu"})
SCHEMES = ("kaiming", "xavier", "orthogonal", "uniform_fan")
CPU = torch.device("cpu")


def train_weights(configs, sample, monkeypatch) -> list[dict[str, torch.Tensor]]:
    """Return the weights of runs after their last step."""
    groups = []
    ensemble = vectorized.ensemble
    with monkeypatch.context() as patch:
        patch.setattr(vectorized, "ensemble", lambda *arguments: groups.append(ensemble(*arguments)) or groups[-1])
        trainer.train(configs, sample, "cpu")
    return [groups[0].network(i).state_dict() for i in range(len(configs))]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("base", [pytest.param(MLP, id="mlp"), pytest.param(CNN, id="cnn", marks=pytest.mark.slow)])
def test_a_stack_trains_each_network_as_alone(base, optimizer, sample, monkeypatch):
    """A step of a stack is the step of each network within rounding, which Adam's division enlarges."""
    rounding = 2e-5 if optimizer == "sgd" else 2e-4
    steps = 9 if optimizer == "sgd" and base is MLP else 3
    schemes = SCHEMES if base is MLP else SCHEMES[:2]
    unit = [replace(base, label=name, scheme=name, optimizer=optimizer, lr=0.02, steps=steps) for name in schemes]
    loader = SampleLoader(sample, CPU, MLP)
    example = loader.normalize(loader.train_x[:2])
    assert bool(vectorized.dense_chain(build_network(base, loader), example)) == (base is MLP)
    for config, weights in zip(unit, train_weights(unit, sample, monkeypatch), strict=True):
        (alone,) = train_weights([config], sample, monkeypatch)
        for name, value in alone.items():
            torch.testing.assert_close(weights[name], value, rtol=1e-3, atol=rounding)


def test_a_network_that_diverges_does_not_change_the_others(sample, monkeypatch):
    """In a stack no number of one network reaches another one, not even NaN."""
    wild = replace(MLP, label="uniform", scheme="uniform", lr=5.0)
    calm = replace(wild, label="zeros", scheme="zeros")
    both = train_weights([wild, calm], sample, monkeypatch)
    (alone,) = train_weights([calm], sample, monkeypatch)
    for name, value in alone.items():
        torch.testing.assert_close(both[1][name], value)


def test_a_study_trains_as_the_stages_do(sample, monkeypatch):
    """The same network, images, seed and settings give the weights that `training.loop.fit` gives."""
    config = replace(MLP, optimizer="adamw", lr=0.01, weight_decay=0.05, steps=12, seed=3, warmup=2)
    (weights,) = train_weights([config], sample, monkeypatch)
    loader = SampleLoader(sample, CPU, MLP)

    class Normalized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = build_network(config, loader)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(loader.normalize(x))

    hyper = Training(
        epochs=2, batch_size=16, optimizer="adamw", lr=0.01, weight_decay=0.05, warmup_epochs=2 / 6, label_smoothing=0.0,
        class_weights="none", patience=2,
    )  # fmt: skip
    last: dict[str, torch.Tensor] = {}
    model = Normalized()
    compute = Compute(seed=3, threads=1, accelerator="cpu", precision="32-true")
    train, val = Examples(sample.train_images[None], sample.train_labels), Examples(sample.val_images[None], sample.val_labels)
    fit(model, train, val, hyper, compute, 3, on_epoch=lambda row: last.update(model.inner.state_dict()))
    for name, value in weights.items():
        torch.testing.assert_close(value, last[name], rtol=1e-4, atol=1e-6)


def test_evaluations_are_spread_over_the_steps(sample):
    """There are an evaluation before the first step and `eval_points` later ones, with all layers."""
    (result,) = trainer.train([MLP], sample, "cpu")
    assert [point.step for point in result.curve] == [0, 3, 6, 9]
    assert [row.layer for row in result.layers] == ["fc1", "fc2", "head"] * 4
    assert result.multiply_adds == 64 * 12 + 12 * 8 + 8 * 3


def test_a_training_that_is_stopped_is_the_beginning_of_the_whole(sample):
    """A run that is stopped at an evaluation has the curve of the whole run up to there."""
    config = replace(MLP, steps=12, eval_points=4)
    (full,) = trainer.train([config], sample, "cpu")
    (part,) = trainer.train([config], sample, "cpu", stop=lambda point: point.step >= 6)
    assert [point.step for point in part.curve] == [0, 3, 6]
    assert part.curve == full.curve[:3]


@pytest.mark.parametrize(
    ("name", "blocks"),
    [("compact", 0), ("compact", 2), pytest.param("torchvision/mobilenet_v2", 2, marks=pytest.mark.slow)],
)
def test_frozen_features_are_those_of_the_network(name, blocks, sample):
    """What a frozen part gives, computed once, leads to the curve of a network that is run whole in every step."""
    options = {"width": 4} if name == "compact" else {}
    config = replace(MLP, architecture=name, options=options, trained_blocks=blocks, lr=0.01 if blocks else 1.0)
    if not options:
        colours = {part: np.repeat(getattr(sample, part), 3, 1) for part in ("train_images", "val_images")}
        sample = replace(sample, **colours)
    (slow,) = trainer.train([config], sample, "cpu")
    (fast,) = trainer.train([replace(config, cache_features=True)], sample, "cpu")
    for point, other in zip(slow.curve, fast.curve, strict=True):
        assert asdict(point) == pytest.approx(asdict(other), abs=1e-4)
    assert slow.curve[-1] != slow.curve[0]
    assert (slow.parameters, slow.multiply_adds) == (fast.parameters, fast.multiply_adds)


def test_a_probe_measures_dead_units_and_gradients():
    """A unit that is 0 for all images is dead; zero weights pass no gradient; tanh far out is saturated."""
    network = nn.Sequential(OrderedDict(a=nn.Linear(4, 10), r=nn.ReLU(), b=nn.Linear(10, 6), t=nn.Tanh(), head=nn.Linear(6, 2)))
    with torch.no_grad():
        network.a.bias[:5] = -100
        network.b.bias.fill_(100)
        network.head.weight.zero_()
    first, second, head = probe(network, torch.rand(20, 4), torch.zeros(20, dtype=torch.long), 7)
    assert (first.step, first.layer, head.layer) == (7, "a", "head")
    assert first.dead >= 0.5
    assert first.gradient == second.gradient == 0
    assert second.saturated == 1
    assert head.gradient > 0
    assert head.dead is None


@pytest.mark.slow
def test_dropout_depends_on_the_seed_and_not_on_evaluations(sample, monkeypatch):
    """What a network drops at random is drawn from its run's seed, however often it is evaluated."""
    losses = trainer.losses
    states: list[torch.Tensor] = []

    def record(logits, labels):
        if torch.is_grad_enabled():
            states.append(torch.random.get_rng_state())
        return losses(logits, labels)

    monkeypatch.setattr(trainer, "losses", record)
    options = {"width": 0.1, "depth": 0.1, "dropout": 0.5}
    config = RunConfig("p", "a", 0, "efficientnet", options, steps=4, batch_size=16, lr=0.01, eval_points=1)
    for run in (config, replace(config, eval_points=4), replace(config, seed=1)):
        trainer.train([run], sample, "cpu")
    once, often, other = states[:4], states[4:8], states[8:]
    assert all(torch.equal(a, b) for a, b in zip(once, often, strict=True))
    assert not torch.equal(once[0], once[1])
    assert not torch.equal(once[0], other[0])
