"""Fine-tuning above stored feature maps is fine-tuning."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from darkroom.config.params import Compute, Training
from darkroom.models.backbones.torchvision import TorchvisionBackbone
from darkroom.models.base import Network, Preprocessing
from darkroom.models.engine import Eager
from darkroom.models.specs import BackboneSpec
from darkroom.training import embedding
from darkroom.training.batches import Examples
from darkroom.training.freezing import unfreeze
from darkroom.training.loop import fit

COMPUTE = Compute(seed=0, threads=2, accelerator="cpu", precision="32-true")
HYPER = Training(
    epochs=2, batch_size=8, optimizer="sgd", lr=0.01, weight_decay=0.0, warmup_epochs=0.0, label_smoothing=0.0,
    class_weights="none", patience=9,
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "fast"), [("vgg11_bn", False), ("mobilenet_v3_small", True), ("mobilenet_v3_small", False), ("resnet18", True)]
)
def test_it_equals_training_through_the_whole_network(name, fast, tmp_path):
    """With the same views and seeds, training above stored feature maps gives the weights of training end to
    end.

    Within float tolerance on maps made by torch, and on those of the engine in use.
    """
    rng = np.random.default_rng(0)
    views = rng.integers(0, 256, (2, 24, 32, 32, 3), np.uint8)
    labels = rng.integers(0, 3, 24)
    preprocessing = Preprocessing(32, "crop", (0, 0, 0), (0.5,) * 3, (0.25,) * 3)
    full = Network(TorchvisionBackbone(BackboneSpec(name, 32)), preprocessing, 3)
    embedding.calibrate(torch.nn.Sequential(full.normalize, full.features), views[0], COMPUTE)
    cut_up = copy.deepcopy(full)

    _, groups = unfreeze(full, 0.3, 0.7)
    through = Examples(views, labels), Examples(views[:1], labels)
    one = fit(full, *through, HYPER, COMPUTE, 3, groups=groups, freeze_statistics=True)

    cut, groups = unfreeze(cut_up, 0.3, 0.7)
    below = embedding.LowerPart(cut_up.normalize, cut_up.features, cut).eval()
    engine = embedding.engine_for(below, views, COMPUTE) if fast else Eager(below, torch.device("cpu"))
    maps = embedding.run_network(engine, views, "maps", [tmp_path / "maps.npy"])[0]
    model = embedding.UpperPart(cut_up.features, cut_up.head, cut)
    above = Examples(maps, labels), Examples(maps[:1], labels)
    two = fit(model, *above, HYPER, COMPUTE, 3, groups=groups, freeze_statistics=True)

    assert 0 < cut < full.features.block_count
    losses = [[row["train_loss"] for row in fitted.history] for fitted in (one, two)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    for key, value in full.state_dict().items():
        assert torch.allclose(value, cut_up.state_dict()[key], rtol=1e-3, atol=1e-4), key


@pytest.mark.parametrize(("amount", "trained"), [(1, 1), (3, 3), (0.2, 3), (0.999, 13), (99, 13)])
def test_the_amount_is_a_number_or_a_share(amount, trained):
    """A whole number unfreezes that many blocks, a share below 1 that part of them rounded up, never more
    than there are.
    """
    network = Network(
        TorchvisionBackbone(BackboneSpec("mobilenet_v3_small", 32)), Preprocessing(32, "crop", (0,) * 3, (0.5,) * 3, (0.5,) * 3), 2
    )
    cut, groups = unfreeze(network, amount, 0.5)
    assert network.features.block_count - cut == trained
    assert [group.factor for group in groups] == [0.5**i for i in range(len(groups))]
    frozen = [p for i in range(cut) for p in network.features.block(i).parameters()]
    assert not any(p.requires_grad for p in frozen)
    assert all(p.requires_grad for group in groups for p in group.parameters)
