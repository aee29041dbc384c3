"""The training loop: it learns, repeats itself and returns the best epoch."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch
from torch import nn

from darkroom.config.params import Compute, Training
from darkroom.core.errors import ParamsError
from darkroom.models.architectures.compact import Compact
from darkroom.models.base import Network, Preprocessing
from darkroom.models.specs import CompactSpec
from darkroom.training import embedding, temperature
from darkroom.training.batches import Examples
from darkroom.training.criterion import class_weights
from darkroom.training.loop import fit, run_epoch
from darkroom.training.stepper import ParamGroup, Stepper, lr_factor

COMPUTE = Compute(seed=0, threads=2, accelerator="cpu", precision="32-true")
PREPROCESSING = Preprocessing(16, "crop", (0, 0, 0), (0.5,) * 3, (0.25,) * 3)


def hyper(**changes) -> Training:
    base = {
        "epochs": 4, "batch_size": 16, "optimizer": "adamw", "lr": 0.01, "weight_decay": 0.0, "warmup_epochs": 1.0,
        "label_smoothing": 0.0, "class_weights": "none", "patience": 10,
    }  # fmt: skip
    return Training(**(base | changes))


def examples(count=64, seed=0) -> Examples:
    """Return images whose class is the brighter half."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    images = rng.integers(0, 100, (2, count, 16, 16, 3), np.uint8)
    for i, label in enumerate(labels):
        images[:, i, :, label * 8 : label * 8 + 8] += 100
    return Examples(images, labels)


def network(seed=0) -> Network:
    return Network(Compact(CompactSpec(16, 4), seed), PREPROCESSING, 2, seed)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_it_learns(optimizer):
    """Either optimizer learns a simple task from few images."""
    model = network()
    trained = fit(model, examples(), examples(seed=1), hyper(optimizer=optimizer, lr=0.02), COMPUTE, 2)
    assert trained.best["val_accuracy"] > 0.9


def test_the_temperature_is_that_of_the_best_epoch():
    """What `fit` returns is the temperature of the best epoch's logits on validation, which the model is left
    with.
    """
    model, val = network(), examples(seed=1)
    trained = fit(model, examples(), val, hyper(lr=0.02), COMPUTE, 2)
    with torch.no_grad():
        logits = model(torch.from_numpy(val.inputs[0])).numpy()
    assert trained.temperature == pytest.approx(temperature.fit(logits, val.labels), rel=1e-4)
    assert trained.temperature != 1


@pytest.mark.slow
def test_identical_runs_give_identical_weights():
    """Two runs with the same arguments give the same parameters bit for bit, whatever happened before them."""
    states = []
    for _ in range(2):
        torch.rand(7)
        np.random.rand(3)
        model = network()
        fit(model, examples(), examples(seed=1), hyper(), COMPUTE, 2)
        states.append(model.state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_a_loss_that_is_not_finite_is_an_error_with_a_remedy():
    """A learning rate that is far too high ends in an error that says what to change."""
    with pytest.raises(ParamsError, match="the loss is"):
        fit(network(), examples(), examples(seed=1), hyper(optimizer="sgd", lr=1e30), COMPUTE, 2)


@pytest.mark.slow
def test_half_precision_trains_on_a_cpu():
    """With `bf16-mixed` a network on small images trains on a CPU too, to losses near those of float32."""
    losses = []
    for precision in ("32-true", "bf16-mixed"):
        result = fit(network(), examples(), examples(seed=1), hyper(), COMPUTE.model_copy(update={"precision": precision}), 2)
        losses.append([row["train_loss"] for row in result.history])
    assert losses[1] == pytest.approx(losses[0], rel=0.1)


def test_a_missing_accelerator_is_named():
    """Asking for a device that torch does not have is refused."""
    missing = "mps" if not torch.backends.mps.is_available() else "cuda"
    with pytest.raises(ParamsError, match=missing):
        fit(network(), examples(), examples(), hyper(), COMPUTE.model_copy(update={"accelerator": missing}), 2)


@pytest.mark.slow
def test_the_best_epoch_is_returned():
    """The model ends with the weights of the epoch with the lowest validation loss, not of the last."""
    model, train, val = network(), examples(), examples(seed=1)
    wrong = Examples(train.inputs, 1 - train.labels)  # the more it learns, the higher the loss on the right labels
    trained = fit(model, wrong, val, hyper(epochs=6), COMPUTE, 2)
    with torch.no_grad():
        logits = model(torch.from_numpy(val.inputs[0]))
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(val.labels)).item()
    assert loss == pytest.approx(trained.best["val_loss"], rel=1e-4)
    assert trained.best["val_loss"] == min(row["val_loss"] for row in trained.history) < trained.history[-1]["val_loss"]


@pytest.mark.slow
def test_patience_ends_training():
    """Training ends once no epoch was better for `patience` epochs."""
    trained = fit(network(), examples(), examples(seed=1), hyper(epochs=50, patience=2, lr=0.02), COMPUTE, 2)
    assert len(trained.history) == trained.best["epoch"] + 2 < 50


def test_frozen_parameters_and_statistics_stay():
    """Only the groups are trained, and with frozen statistics batch normalisation keeps its own."""
    model = network()
    for parameter in model.features.parameters():
        parameter.requires_grad_(False)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    groups = [ParamGroup(list(model.head.parameters()))]
    fit(model, examples(), examples(seed=1), hyper(), COMPUTE, 2, groups=groups, freeze_statistics=True)
    changed = {key for key, value in model.state_dict().items() if not torch.equal(before[key], value)}
    assert changed == {"head.weight", "head.bias"}


def test_the_learning_rate_warms_up_and_falls_to_zero():
    """Linear to one over the warm-up, then a cosine that ends near zero and never rises."""
    rates = [lr_factor(step, 100, 10) for step in range(100)]
    assert rates[:10] == pytest.approx(np.arange(1, 11) / 10)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))
    assert rates[-1] < 0.01


def test_balanced_classes_count_alike():
    """With balanced weights every class has the same total weight; without there are none."""
    labels = np.array([0] * 90 + [1] * 10)
    weights = class_weights(labels, 2, "balanced")
    assert 90 * weights[0] == pytest.approx(10 * weights[1].item())
    assert class_weights(labels, 2, "none") is None


def test_progress_is_readable_in_a_log(capfd):
    """A log says what is trained, how far it is, and the validation accuracy."""
    fit(network(), examples(), examples(seed=1), hyper(epochs=2), COMPUTE, 2, description="training it")
    assert "training it: 2 of 2 epochs" in capfd.readouterr().err


def test_calibration_gives_batch_normalisation_the_statistics_of_the_images():
    """After calibration each normalised channel has mean 0 and variance 1 over the images that were shown."""
    layer = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    model = nn.Sequential(_Pixels(), layer)
    images = examples(100).inputs[0]
    assert embedding.calibrate(model, images, COMPUTE)
    with torch.no_grad():
        out = model(torch.from_numpy(images))
    assert out.mean((0, 2, 3)) == pytest.approx(np.zeros(4), abs=0.05)
    assert out.var((0, 2, 3)) == pytest.approx(np.ones(4), abs=0.05)
    assert not embedding.calibrate(nn.Linear(2, 2), images, COMPUTE)


class _Pixels(nn.Module):
    def forward(self, images):
        return images.permute(0, 3, 1, 2).float() / 255


def test_a_standardised_head_folds_into_a_plain_one():
    """The folded head gives the logits that the standardised one gave, also where a number never varies."""
    rng = np.random.default_rng(0)
    embeddings = rng.normal(3, 5, (2, 50, 8)).astype(np.float32)
    embeddings[..., 3] = 1.5
    head = nn.Linear(8, 3)
    scaled = embedding.StandardizedHead(head, embeddings)
    x = torch.from_numpy(embeddings[0])
    with torch.no_grad():
        expected = scaled(x)
        scaled.fold()
        assert torch.allclose(head(x), expected, atol=1e-5)


def test_the_norm_of_the_gradient_is_recorded(monkeypatch):
    """Every epoch has the norm of the gradient over all trained parameters: here of one step, as computed by
    hand.
    """
    train = examples(16)
    model = network()
    twin = network()
    loss = nn.functional.cross_entropy(twin(torch.from_numpy(train.inputs[0])), torch.from_numpy(train.labels))
    loss.backward()
    expected = float(torch.cat([p.grad.flatten() for p in twin.parameters()]).norm())
    trained = fit(model, train, examples(seed=1), hyper(epochs=1), COMPUTE, 2)
    assert trained.history[0]["train_gradient_norm"] == pytest.approx(expected, rel=1e-3)


def test_an_epoch_ends_where_a_hook_says_so():
    """`on_batch` sees the loss of each step and ends the epoch by returning True; without a stepper nothing is trained."""
    model = nn.Linear(2, 2)
    batches = [(torch.randn(4, 2), torch.arange(4) % 2) for _ in range(5)]
    stepper = Stepper([ParamGroup(list(model.parameters()))], "sgd", 0.1)
    losses = []
    run_epoch(
        model, batches, nn.functional.cross_entropy, stepper, lambda loss, *_: losses.append(float(loss)) or stepper.count == 3
    )
    assert (len(losses), stepper.count, model.training) == (3, 3, True)
    before = [parameter.clone() for parameter in model.parameters()]
    mean = run_epoch(model, batches, nn.functional.cross_entropy)
    expected = np.mean([nn.functional.cross_entropy(model(x), y).item() for x, y in batches])
    assert mean == pytest.approx(expected, rel=1e-5)
    assert not model.training
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_a_stepper_resumes_from_its_state():
    """An optimizer whose state was saved and loaded makes the steps that it would have made."""
    torch.manual_seed(0)
    batches = [(torch.randn(4, 2), torch.arange(4) % 2) for _ in range(4)]
    model = nn.Linear(2, 2)
    stepper = Stepper([ParamGroup(list(model.parameters()))], "adamw", 0.1)
    run_epoch(model, batches[:2], nn.functional.cross_entropy, stepper)
    twin = copy.deepcopy(model)
    resumed = Stepper([ParamGroup(list(twin.parameters()))], "adamw", 0.1)
    resumed.optimizer.load_state_dict(copy.deepcopy(stepper.optimizer.state_dict()))
    for trained, steps in ((model, stepper), (twin, resumed)):
        run_epoch(trained, batches[2:], nn.functional.cross_entropy, steps)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


def test_the_loss_of_weighted_classes_is_one_mean_over_all_batches():
    """With class weights the validation loss is the sum of the weighted losses by the sum of the weights, also where
    each batch has one class alone."""
    counts = (300, 20)  # batches of validation hold 256 images: the first has one class
    labels = np.repeat([0, 1], counts)
    val = Examples(np.zeros((1, sum(counts), 16, 16, 3), np.uint8), labels)
    train = Examples(np.zeros((1, 8, 16, 16, 3), np.uint8), np.array([0] * 7 + [1]))
    trained = fit(network(), train, val, hyper(epochs=1, class_weights="balanced"), COMPUTE, 2)
    model = network()
    fit(model, train, val, hyper(epochs=1, class_weights="balanced"), COMPUTE, 2)
    with torch.no_grad():
        logits = model(torch.from_numpy(val.inputs[0]))
    weights = class_weights(train.labels, 2, "balanced")
    expected = nn.functional.cross_entropy(logits, torch.from_numpy(labels), weights)
    assert trained.best["val_loss"] == pytest.approx(float(expected), rel=1e-5)


def test_a_validation_loss_that_is_not_finite_ends_training():
    """Infinite embeddings among the validation images end training with a remedy, and not with an epoch that stays best."""
    inputs = np.zeros((1, 8, 4), np.float32)
    train, val = Examples(inputs, np.arange(8) % 2), Examples(np.full_like(inputs, np.inf), np.arange(8) % 2)
    with pytest.raises(ParamsError, match="validation loss is nan in epoch 1") as raised:
        fit(nn.Linear(4, 2), train, val, hyper(), COMPUTE, 2)
    assert "lr" in raised.value.remedy


def test_only_weights_decay():
    """Weight decay changes weights, and neither biases nor the scales and shifts of normalisation; of stacked networks
    the same."""
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    stacked = nn.ParameterList([nn.Parameter(torch.ones(3, 2, 2)), nn.Parameter(torch.ones(3, 2))])
    for parameters, is_stacked in ((model.parameters(), False), (stacked.parameters(), True)):
        parameters = list(parameters)
        before = [parameter.detach().clone().fill_(1.0) for parameter in parameters]
        with torch.no_grad():
            for parameter in parameters:
                parameter.fill_(1.0)
        stepper = Stepper([ParamGroup(parameters, stacked=is_stacked)], "adamw", 0.1, weight_decay=0.5)
        stepper(sum((parameter * 0).sum() for parameter in parameters))
        changed = [not torch.equal(parameter, old) for parameter, old in zip(parameters, before, strict=True)]
        assert changed == [True, *[False] * (len(parameters) - 1)]
