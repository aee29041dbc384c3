"""Start-up: building, training and exporting a network import nothing that they do not need."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import sys
import numpy as np
from darkroom.config.params import Compute, Training
from darkroom.models.backbones.torchvision import TorchvisionBackbone
from darkroom.models.base import Network, Preprocessing
from darkroom.models.specs import BackboneSpec
from darkroom.training import embedding
from darkroom.training.batches import Examples
from darkroom.training.loop import fit
compute = Compute(seed=0, threads=2, accelerator="cpu", precision="32-true")
preprocessing = Preprocessing(32, "crop", (0, 0, 0), (0.5,) * 3, (0.5,) * 3)
images = np.zeros((1, 8, 32, 32, 3), np.uint8)
examples = Examples(images, np.arange(8) % 2)
for backbone, optimizer, frozen in (("mobilenet_v3_small", "adamw", True), ("squeezenet1_1", "sgd", False)):
    network = Network(TorchvisionBackbone(BackboneSpec(backbone, 32)), preprocessing, 2)
    hyper = Training(epochs=1, batch_size=4, optimizer=optimizer, lr=0.01, weight_decay=0.1, warmup_epochs=0.0,
        label_smoothing=0.0, class_weights="none", patience=9)
    fit(network, examples, examples, hyper, compute, 2, freeze_statistics=frozen)
    assert embedding.engine_for(network, images, compute).name != "torch"
unused = {"torch._dynamo", "torch._inductor", "sympy", "onnx", "sklearn", "mlflow", "pandas", "matplotlib", "albumentations"}
assert not unused & set(sys.modules), unused & set(sys.modules)
import torch
assert torch.compile(lambda x: x + 1, backend="eager")(torch.zeros(1)) == 1
import torchvision
boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
assert torchvision.ops.roi_align(torch.ones(1, 1, 8, 8), [boxes], 2).shape == (1, 1, 2, 2)
"""


@pytest.mark.slow
def test_training_and_export_import_no_compiler():
    """Neither torch's compiler nor libraries of other stages are imported; the compiler and detectors still
    work afterwards.
    """
    subprocess.run([sys.executable, "-W", "ignore", "-c", CODE], check=True)


def test_names_descriptions_and_digests_import_no_torch():
    """Listing architectures and describing a network import neither torch nor torchvision."""
    code = (
        "import sys; from darkroom.models import factory, specs, weight_files; "
        "assert len(factory.names()) > 120; factory.make_spec('resnet20', 32); "
        "assert not {'torch', 'torchvision', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
