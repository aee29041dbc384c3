"""Starting fast: torchvision, new networks, training and export without torch's compiler."""

from __future__ import annotations

import subprocess
import sys

import torch

from darkroom.models.init import SkipInit

CODE = """
import sys
import numpy as np
from darkroom.models import engine
from darkroom.models.backbones.torchvision import TorchvisionBackbone
from darkroom.models.specs import BackboneSpec
from darkroom.models.network import Network, Preprocessing
from darkroom.params import Compute, Training
from darkroom.training import embedding
from darkroom.training.feeding import Examples
from darkroom.training.loop import fit
compute = Compute(seed=0, threads=2, accelerator="cpu", precision="32-true")
hyper = Training(epochs=1, batch_size=4, optimizer="{optimizer}", lr=0.01, weight_decay=0.1, warmup_epochs=0.0,
    label_smoothing=0.0, class_weights="none", patience=9)
network = Network(TorchvisionBackbone(BackboneSpec("{backbone}", 32)), Preprocessing(32, "crop", (0, 0, 0), (0.5,) * 3, (0.5,) * 3), 2)
images = np.zeros((1, 8, 32, 32, 3), np.uint8)
examples = Examples(images, np.arange(8) % 2)
fit(network, examples, examples, hyper, compute, 2, freeze_statistics={frozen})
assert embedding.engine_for(network, images, compute).name != "torch"
slow = {{"torch._dynamo", "torch._inductor", "sympy", "sklearn", "mlflow", "pandas", "matplotlib", "albumentations"}}
assert not slow & set(sys.modules), slow & set(sys.modules)
import torch
assert torch.compile(lambda x: x + 1, backend="eager")(torch.zeros(1)) == 1
import torchvision
boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
assert torchvision.ops.roi_align(torch.ones(1, 1, 8, 8), [boxes], 2).shape == (1, 1, 2, 2)
"""


def test_training_and_export_import_no_compiler():
    """Building, training and exporting a network import neither torch's compiler nor what other stages need; it works later."""
    for options in (
        {"optimizer": "adamw", "backbone": "mobilenet_v3_small", "frozen": True},
        {"optimizer": "sgd", "backbone": "vgg11", "frozen": False},
    ):
        subprocess.run([sys.executable, "-W", "ignore", "-c", CODE.format(**options)], check=True)


def test_torchvision_imports_no_exporter():
    """Building a network imports neither torch's compiler nor its exporter."""
    code = """
import sys
from darkroom.models.backbones.torchvision import TorchvisionBackbone
from darkroom.models.specs import BackboneSpec
TorchvisionBackbone(BackboneSpec("mobilenet_v3_small", 32))
assert not {"torch._dynamo", "torch.onnx.symbolic_opset9", "torch.onnx._internal"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_meta_networks_are_not_drawn():
    """In the context, initialisers leave tensors as they are; outside they draw."""
    layer = torch.nn.Linear(3, 3)
    before = layer.weight.clone()
    with SkipInit():
        torch.nn.init.kaiming_normal_(layer.weight, mode="fan_out")
        torch.nn.init.zeros_(tensor=layer.weight)
    assert torch.equal(layer.weight, before)
    torch.nn.init.zeros_(layer.weight)
    assert not layer.weight.any()
