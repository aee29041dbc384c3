"""How a member begins, which parts of it are trained, and at which rate."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from darkroom.core.errors import ParamsError
from darkroom.studies import lr_finder, runner, schedules, trainer
from darkroom.studies.batches import Feed
from darkroom.studies.initial_weights import Frozen, blocks, build, keep
from darkroom.studies.run_config import Member, Outcome

MEMBER = Member("p", "a", 0, "compact", {"width": 4}, steps=4, batch_size=16, lr=0.01, looks=1)
NETWORKS = {"compact": {"width": 4}, "resnet8": {"width": 4}, "torchvision/squeezenet1_1": {}, "mlp": {"hidden": [8, 8]}}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_frozen_part_stays_as_it_is(name, sample):
    """After training weights and statistics of frozen blocks are bit for bit the same; the last block and the head are not."""
    if name.startswith("torchvision"):
        images = [np.repeat(np.repeat(np.repeat(array, 3, 1), 4, 2), 4, 3) for array in (sample.train_images, sample.held_images)]
        sample = replace(sample, train_images=images[0][:32], train_labels=sample.train_labels[:32], held_images=images[1])
    member = replace(MEMBER, architecture=name, options=NETWORKS[name])
    feed = Feed(sample, torch.device("cpu"))
    network = Frozen(build(member, sample, feed), 1)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    optimizer = trainer.OPTIMIZERS["sgd"]([{"params": [p for p in network.parameters() if p.requires_grad], "lr": 0.1}], 0.1)
    for x, y in feed.batches(0, 16, 3):
        network.train()
        torch.nn.functional.cross_entropy(network(x), y).backward()
        optimizer.step()
    changed = {key for key, value in network.state_dict().items() if not torch.equal(value, before[key])}
    names = {module: key for key, module in network.named_modules()}
    last = tuple(names[module] for module in blocks(network.features)[-1] if list(module.parameters()))
    assert "head.weight" in changed
    assert any(key.startswith(last) for key in changed)
    assert all(key.startswith((*last, "head.")) for key in changed)


def test_without_blocks_all_is_trained(sample):
    """`blocks: None` trains every weight, 0 the head alone; as many blocks as there are, or more, are refused."""
    feed = Feed(sample, torch.device("cpu"))
    counts = []
    for number in (None, 0, 1, 7):
        network = build(replace(MEMBER, blocks=number), sample, feed)
        counts.append(sum(p.numel() for p in network.parameters() if p.requires_grad))
    with pytest.raises(ParamsError, match="the network has 8"):
        build(replace(MEMBER, blocks=8), sample, feed)
    assert counts[0] > counts[3] > counts[2] > counts[1] == sum(p.numel() for p in network.head.parameters())


def test_a_member_begins_with_what_another_learned(sample, tmp_path):
    """The network of `start` is trained once, its weights are those that others begin with, and they are made again where lost."""
    start = replace(MEMBER, panel="before", label="start", on="other")
    members = [replace(MEMBER, start=start, seed=seed, blocks=0) for seed in range(2)]
    samples = {"": sample, "other": replace(sample, train_labels=sample.train_labels[::-1].copy(), digest="other")}
    done: list[Outcome] = []
    first = runner.run(members, samples, accelerator="cpu", remembered=tmp_path, on_done=done.append)
    assert [o.member.label for o in done] == ["start", "a", "a"]
    (file,) = tmp_path.glob("*.safetensors")
    feed = Feed(sample, torch.device("cpu"))
    begun = build(members[0], sample, feed, file)
    assert not torch.equal(begun.features.stages[0][0][0].weight, build(MEMBER, sample, feed).features.stages[0][0][0].weight)
    file.unlink()
    (tmp_path / "nothing").mkdir()
    runner.run(members, samples, accelerator="cpu", remembered=tmp_path, on_done=done.append)
    assert len(done) == 3
    assert not file.exists()
    more = [*members, replace(MEMBER, start=start, seed=2, blocks=0)]
    third = runner.run(more, samples, processes=2, accelerator="cpu", remembered=tmp_path, on_done=done.append)
    assert [o.member.label for o in done[3:]] == ["start", "a"]
    assert [o.curve for o in third[:2]] == [o.curve for o in first]
    assert file.is_file()


def test_other_images_before_are_another_member(sample, tmp_path):
    """What is remembered of a member is not met where the network that it begins with saw other images."""
    member = replace(MEMBER, start=replace(MEMBER, label="start", on="other"))
    for digest in ("one", "two"):
        done: list[Outcome] = []
        samples = {"": sample, "other": replace(sample, digest=digest)}
        runner.run([member], samples, accelerator="cpu", remembered=tmp_path, on_done=done.append)
        assert len(done) == 2


def test_kept_weights_are_the_features(sample, tmp_path):
    """What is kept of a network is all but its head, and a network built with it answers the same."""
    feed = Feed(sample, torch.device("cpu"))
    network = build(replace(MEMBER, seed=3), sample, feed).eval()
    keep(network, tmp_path / "kept.safetensors")
    again = build(MEMBER, sample, feed, tmp_path / "kept.safetensors").eval()
    x = feed.normalized(feed.x[:4])
    assert torch.equal(network.features(x), again.features(x))


def test_the_range_test_finds_a_rate_that_learns(sample):
    """The rate is that where the loss falls fastest, the network stays as it was, and training with it lowers the loss."""
    feed = Feed(sample, torch.device("cpu"))
    network = build(MEMBER, sample, feed)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    lr, tested = lr_finder.find(network, feed, MEMBER)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert tested[0][0] == pytest.approx(lr_finder.LOWEST)
    assert lr_finder.LOWEST < lr < tested[-1][0]
    assert lr_finder.steepest([[10.0**i, 1 / (1 + math.exp(i - 7))] for i in range(12)]) == 1e7
    (outcome,) = trainer.train([replace(MEMBER, lr=0, steps=12)], sample, "cpu")
    assert outcome.lr == lr
    assert outcome.tested == tested
    assert outcome.curve[-1]["train_loss"] < outcome.curve[0]["train_loss"]


@pytest.mark.parametrize("name", schedules.SCHEDULES)
def test_schedules_end_low_and_never_exceed_the_rate(name):
    """A factor lies between 0 and 1, rises in the warm-up, reaches 1, and all but `constant` end below a fiftieth."""
    factors = [schedules.schedule(name)(step, 100, 10) for step in range(100)]
    assert all(0 <= factor <= 1 for factor in factors)
    assert factors[0] < factors[5] < factors[9]
    assert max(factors) == pytest.approx(1, abs=0.01)
    assert name == "constant" or factors[-1] < 0.02


def test_unknown_names_have_a_neighbour():
    """A schedule that is misspelt is answered with the nearest."""
    with pytest.raises(ParamsError, match='did you mean "cosine"'):
        schedules.schedule("cosin")


def test_weights_on_file_are_for_torchvision(sample):
    """ImageNet's weights for another network are refused with the remedy."""
    with pytest.raises(ParamsError, match="torchvision/NAME"):
        build(replace(MEMBER, weights="imagenet"), sample, Feed(sample, torch.device("cpu")))


def test_a_frozen_network_drops_nothing(sample):
    """Dropout and stochastic depth below the trained blocks are off while the rest is trained; normalisation is its layer's."""
    feed = Feed(sample, torch.device("cpu"))
    member = replace(MEMBER, architecture="efficientnet", options={"width": 0.1, "dropout": 0.5}, blocks=0)
    network = build(member, sample, feed).train()
    x = feed.normalized(feed.x[:4])
    assert torch.equal(network.features(x), network.features(x))
    whole = build(replace(member, blocks=None), sample, feed).train()
    assert not torch.equal(whole.features(x), whole.features(x))
    units = blocks(build(replace(MEMBER, architecture="vgg11_bn", options={"dense": 8}), sample, feed).features)
    assert [type(unit[0]).__name__ for unit in units] == ["Conv2d"] * 8 + ["Linear"] * 2
