"""Whether Keras' MobileNetV2 with converted weights computes what torchvision's computes.

    python benchmarks/peers/conversion.py FILE.safetensors ENVIRONMENTS/keras/bin/python

Keras pads strided convolutions at the bottom and right, torchvision on all sides. So torchvision's network is padded as
Keras' for the comparison; the benchmark leaves each library its own padding. The weights of ImageNet that Keras has were
trained with Keras' padding.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

sys.path.append(str(Path(__file__).parents[1]))
from tutorial import pretrained

TOLERANCE = 1e-3
KERAS = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import keras_peer, numpy
images = numpy.load(sys.argv[3])
outputs = keras_peer.pretrained(Path(sys.argv[2]), images.shape[1])(images, training=False)
numpy.save(sys.argv[4], outputs.numpy().mean((1, 2)))
"""


def largest_difference(weights: Path, python: Path, size: int = 160) -> float:
    """Return the largest difference of the pooled features (4, 1280) of random images; SystemExit above the tolerance."""
    network = pretrained("mobilenet_v2", weights).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d) and module.stride == (2, 2):
            module.padding = (0, 0)
            module.register_forward_pre_hook(lambda _, inputs: (functional.pad(inputs[0], (0, 1, 0, 1)),))
    images = torch.rand(4, 3, size, size, generator=torch.Generator().manual_seed(0)) * 4 - 2  # the range of normalised pixels
    with torch.no_grad():
        expected = network.features(images).mean((2, 3)).numpy()
    with tempfile.TemporaryDirectory() as scratch:
        inputs, outputs = Path(scratch) / "images.npy", Path(scratch) / "outputs.npy"
        np.save(inputs, images.permute(0, 2, 3, 1).numpy())
        command = [str(python), "-c", KERAS, str(Path(__file__).parent), str(weights), str(inputs), str(outputs)]
        subprocess.run(command, check=True, capture_output=True)
        difference = float(np.abs(np.load(outputs) - expected).max())
    if difference > TOLERANCE:
        raise SystemExit(f"the converted network differs from torchvision's by {difference}")
    return difference


if __name__ == "__main__":
    print(f"largest difference: {largest_difference(Path(sys.argv[1]), Path(sys.argv[2])):.2g}")
