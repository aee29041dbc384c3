"""How members are trained: alone or stacked, in which order, and what is remembered."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from darkroom.config.params import Training
from darkroom.studies import runner, trainer, vectorized
from darkroom.studies.batches import Feed
from darkroom.studies.initial_weights import build
from darkroom.studies.probes import probe
from darkroom.studies.run_config import Member, Outcome
from darkroom.training.batches import Examples
from darkroom.training.loop import fit

MLP = Member("mlp", "kaiming", 0, "mlp", {"hidden": [12, 8]}, "kaiming", steps=9, batch_size=16, lr=0.05, looks=3)
CNN = replace(MLP, panel="cnn", architecture="lenet5", options={"activation": "relu"})
SCHEMES = ("kaiming", "xavier", "orthogonal", "uniform_fan")


def trained_weights(members, sample, monkeypatch) -> list[dict[str, torch.Tensor]]:
    """Return the weights of members after their last step."""
    made = []
    ensemble = vectorized.ensemble
    monkeypatch.setattr(vectorized, "ensemble", lambda *given: made.append(ensemble(*given)) or made[-1])
    trainer.train(members, sample, "cpu")
    monkeypatch.setattr(vectorized, "ensemble", ensemble)
    return [made[0].member(i).state_dict() for i in range(len(members))]


def network_of(member, sample):
    """Return a member's network and two images that it takes."""
    feed = Feed(sample, torch.device("cpu"))
    return build(member, sample, feed), feed.normalized(feed.x[:2])


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("base", [MLP, CNN], ids=["mlp", "cnn"])
def test_a_stack_gives_what_each_member_gives_alone(base, optimizer, sample, monkeypatch):
    """One step of a stack is the step of each of its members: the same weights within rounding, which Adam's division enlarges."""
    rounding = 2e-5 if optimizer == "sgd" else 2e-4
    steps = 9 if optimizer == "sgd" else 3
    unit = [replace(base, label=name, scheme=name, optimizer=optimizer, lr=0.02, steps=steps) for name in SCHEMES]
    assert bool(vectorized.dense_chain(*network_of(base, sample))) == (base is MLP)
    together = trained_weights(unit, sample, monkeypatch)
    for member, weights in zip(unit, together, strict=True):
        (alone,) = trained_weights([member], sample, monkeypatch)
        for name, value in alone.items():
            torch.testing.assert_close(weights[name], value, rtol=1e-3, atol=rounding)


def test_a_member_that_diverges_leaves_the_others_alone(sample, monkeypatch):
    """In a stack no member's numbers reach another one's, not even those that are none."""
    wild = replace(MLP, label="uniform", scheme="uniform", lr=5.0)
    calm = replace(wild, label="zeros", scheme="zeros")
    both = trained_weights([wild, calm], sample, monkeypatch)
    (alone,) = trained_weights([calm], sample, monkeypatch)
    for name, value in alone.items():
        torch.testing.assert_close(both[1][name], value)


def test_a_study_trains_as_the_stages_do(sample, monkeypatch):
    """The same network, images, seed and settings give the weights that `training.loop.fit` gives."""
    member = replace(MLP, optimizer="adamw", lr=0.01, weight_decay=0.05, steps=12, seed=3, warmup=2)
    (ours,) = trained_weights([member], sample, monkeypatch)
    feed = Feed(sample, torch.device("cpu"))

    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = build(member, sample, feed)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(feed.normalized(x))

    from darkroom.config.params import Compute

    hyper = Training(
        epochs=2, batch_size=16, optimizer="adamw", lr=0.01, weight_decay=0.05, warmup_epochs=2 / 6, label_smoothing=0.0,
        class_weights="none", patience=2,
    )  # fmt: skip
    last = {}
    whole = Whole()
    compute = Compute(seed=3, threads=1, accelerator="cpu", precision="32-true")
    examples, held = (
        Examples(sample.train_images[None], sample.train_labels),
        Examples(sample.held_images[None], sample.held_labels),
    )
    fit(whole, examples, held, hyper, compute, 3, on_epoch=lambda row: last.update(whole.inner.state_dict()))
    for name, value in ours.items():
        torch.testing.assert_close(value, last[name], rtol=1e-4, atol=1e-6)


def test_the_same_seed_is_the_same_order(sample):
    """Members see the same images in the same order; another seed is another order, and each epoch has every image once."""
    feed = Feed(sample, torch.device("cpu"))
    order = [torch.cat([y for _, y in feed.batches(seed, 16, 6)]) for seed in (0, 0, 1)]
    assert torch.equal(order[0], order[1])
    assert not torch.equal(order[0], order[2])
    assert np.array_equal(np.bincount(order[0].numpy()), np.bincount(sample.train_labels))


def test_looks_are_spread_over_the_steps(sample):
    """There is a look before the first step, one after the last, and as many as asked for; each has all layers."""
    (outcome,) = trainer.train([MLP], sample, "cpu")
    assert [row["step"] for row in outcome.curve] == [0, 3, 6, 9]
    assert [row["layer"] for row in outcome.layers] == ["fc1", "fc2", "head"] * 4
    assert outcome.multiply_adds == 64 * 12 + 12 * 8 + 8 * 3
    assert outcome.curve[-1]["val_accuracy"] > outcome.curve[0]["val_accuracy"]


def test_a_probe_sees_dead_units_and_gradients():
    """A unit that no image wakes is dead; without weights above it no gradient reaches a layer; tanh far out is saturated."""
    from collections import OrderedDict

    from torch import nn

    network = nn.Sequential(OrderedDict(a=nn.Linear(4, 10), r=nn.ReLU(), b=nn.Linear(10, 6), t=nn.Tanh(), head=nn.Linear(6, 2)))
    with torch.no_grad():
        network.a.bias[:5] = -100
        network.b.bias.fill_(100)
        network.head.weight.zero_()
    first, second, head = probe(network, torch.rand(20, 4), torch.zeros(20, dtype=torch.long), 7)
    assert (first["step"], first["layer"], head["layer"]) == (7, "a", "head")
    assert first["dead"] >= 0.5
    assert first["gradient"] == second["gradient"] == 0
    assert second["saturated"] == 1
    assert head["gradient"] > 0
    assert head["dead"] is None


def test_a_stopped_study_goes_on_where_it_was(sample, tmp_path, monkeypatch):
    """What was finished before a stop is not trained again, and the outcomes are those of a study that ran through."""
    members = [replace(CNN, seed=seed) for seed in range(3)]
    whole = runner.run(members, {"": sample}, accelerator="cpu", remembered=tmp_path / "whole")
    done: list[Outcome] = []

    def stop(outcome: Outcome) -> None:
        done.append(outcome)
        if len(done) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runner.run(members, {"": sample}, accelerator="cpu", remembered=tmp_path / "parts", on_done=stop)
    rest: list[Outcome] = []
    parts = runner.run(members, {"": sample}, accelerator="cpu", remembered=tmp_path / "parts", on_done=rest.append)
    assert [o.member.seed for o in rest] == [2]
    assert [(o.member, o.curve, o.layers) for o in parts] == [(o.member, o.curve, o.layers) for o in whole]


def test_what_is_remembered_is_checked(sample, tmp_path):
    """A damaged file is trained again; other images, settings or code never meet it."""
    count: list[Outcome] = []
    runner.run([MLP], {"": sample}, accelerator="cpu", remembered=tmp_path, on_done=count.append)
    (file,) = tmp_path.glob("*.json")
    file.write_text(file.read_text().replace("0.", "1.", 1))
    runner.run([MLP], {"": sample}, accelerator="cpu", remembered=tmp_path, on_done=count.append)
    runner.run([MLP], {"": replace(sample, digest="other")}, accelerator="cpu", remembered=tmp_path, on_done=count.append)
    runner.run([replace(MLP, lr=0.1)], {"": sample}, accelerator="cpu", remembered=tmp_path, on_done=count.append)
    assert len(count) == 4
    runner.run([MLP], {"": sample}, accelerator="cpu", remembered=tmp_path, on_done=count.append)
    assert len(count) == 4


def test_side_by_side_gives_the_same(sample, tmp_path):
    """Two processes give the figures that one gives."""
    members = [replace(CNN, seed=seed, steps=3) for seed in range(2)]
    one = runner.run(members, {"": sample}, accelerator="cpu", remembered=tmp_path / "one")
    two = runner.run(members, {"": sample}, processes=2, accelerator="cpu", remembered=tmp_path / "two")
    assert [(o.curve, o.layers) for o in one] == [(o.curve, o.layers) for o in two]


def test_only_perceptrons_are_stacked_on_a_cpu(sample):
    """On a CPU members of one seed are stacked where that is faster; networks with batch normalisation never are."""
    members = [replace(base, label=name, scheme=name) for base in (MLP, CNN) for name in SCHEMES]
    members += [replace(CNN, panel="r", label=str(i), architecture="resnet8", options={"width": 4}, scheme="") for i in range(2)]
    assert [len(unit) for unit in runner.units(members, {"": sample}, "cpu")] == [4, 1, 1, 1, 1, 1, 1]


def test_the_same_training_is_done_once(sample, tmp_path):
    """Members that differ in panel and label alone are trained once, and each has the outcome under its own name."""
    members = [replace(CNN, panel=panel, label=label, scheme="") for panel, label in (("a", "x"), ("a", "y"), ("b", "z"))]
    members.append(replace(members[0], seed=1))
    done: list[Outcome] = []
    for _ in range(2):
        outcomes = runner.run(members, {"": sample}, accelerator="cpu", remembered=tmp_path, on_done=done.append)
        assert [o.member for o in outcomes] == members
        assert outcomes[0].curve == outcomes[2].curve != outcomes[3].curve
        assert len(done) == 2


def test_seeds_drop_other_units_and_looks_change_nothing(sample, monkeypatch):
    """What a network drops at random is drawn from its member's seed, and not from how often it is looked at."""
    losses = trainer.losses
    states: list[torch.Tensor] = []

    def seen(logits, labels):
        if torch.is_grad_enabled():
            states.append(torch.random.get_rng_state())
        return losses(logits, labels)

    monkeypatch.setattr(trainer, "losses", seen)
    member = Member("p", "a", 0, "efficientnet", {"width": 0.1, "dropout": 0.5}, steps=4, batch_size=16, lr=0.01, looks=1)
    for one in (member, replace(member, looks=4), replace(member, seed=1)):
        trainer.train([one], sample, "cpu")
    once, often, other = states[:4], states[4:8], states[8:]
    assert all(torch.equal(a, b) for a, b in zip(once, often, strict=True))
    assert not torch.equal(once[0], once[1])
    assert not torch.equal(once[0], other[0])
