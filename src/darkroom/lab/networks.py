"""The networks that the lab looks into: trained models, and architectures by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from darkroom.core.errors import ParamsError, nearest, printable
from darkroom.inference.classifier import Classifier
from darkroom.models import factory
from darkroom.models.backbones import registry as backbones
from darkroom.models.backbones.torchvision import imagenet_classes
from darkroom.models.base import IMAGENET, Network, Preprocessing
from darkroom.models.probabilities import softmax
from darkroom.models.specs import NetworkSpec
from darkroom.models.weights import CENTRED, fill, read


@dataclass(frozen=True)
class InspectedNetwork:
    """A network in evaluation mode; `classes` is empty if its head is untrained.

    `seed` drew the weights of an architecture by name, and draws images; `has_file`: its weights are from a
    file. A trained model has the name in its checkpoint and, where it is on this machine, its folder.
    """

    network: Network
    spec: NetworkSpec
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    description: str
    seed: int
    temperature: float = 1.0  # divides the logits before the softmax
    checkpoint_name: str = ""
    folder: Path | None = None
    has_file: bool = False
    is_seed_given: bool = False  # by a person, not by params.yaml

    @property
    def size(self) -> int:
        """Return the pixels a side of its input."""
        return self.preprocessing.image_size

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Return probabilities (N, classes) float64 for images (N, S, S, 3) uint8, the same as `darkroom predict`."""
        with torch.inference_mode():
            return softmax(self.network(to_tensor(images)).numpy(), self.temperature)

    def class_names(self) -> tuple[str, ...]:
        """Return the class names; raises ParamsError if the head is untrained."""
        if not self.classes:
            raise ParamsError(
                f"{self.description} has no classes: its head was never trained", "name a trained model, or give --weights FILE"
            )
        return self.classes

    def class_index(self, name: str) -> int:
        """Return the number of a class; raises ParamsError with the nearest name if there is no such class."""
        classes = self.class_names()
        if name not in classes:
            some = ", ".join(printable(item) for item in classes[:12]) + (", …" if len(classes) > 12 else "")
            raise ParamsError(f'the model has no class "{name}"{nearest(name, classes)}', f"name one of {some}")
        return classes.index(name)


def from_classifier(classifier: Classifier, description: str, seed: int, folder: Path | None = None) -> InspectedNetwork:
    """Return the network of a trained model, whose checkpoint is in the folder, if it is known."""
    checkpoint = classifier.checkpoint
    return InspectedNetwork(
        classifier.network, checkpoint.architecture, checkpoint.preprocessing, classifier.classes, printable(description), seed,
        checkpoint.temperature, checkpoint.name, folder,
    )  # fmt: skip


def build(name: str, size: int | None, seed: int) -> InspectedNetwork:
    """Return an architecture with random weights; `size` is by default that which it was made for."""
    native_size, channels = factory.native_input(name)
    size = _check_size(native_size if size is None else size)
    spec = factory.make_spec(name, size, channels)
    preprocessing = Preprocessing(size, "crop", (0, 0, 0), *CENTRED)
    network = Network(factory.build_features(spec, seed), preprocessing, 1, seed).eval()
    return InspectedNetwork(network, spec, preprocessing, (), f"{name} with random weights (seed {seed})", seed)


def build_with_weights(name: str, file: Path, size: int | None, seed: int) -> InspectedNetwork:
    """Return the network of a library with a file of weights; 1000 outputs are ImageNet's classes."""
    if name not in backbones.names() and not backbones.is_prefixed(name):
        libraries = " and ".join(backbones.SOURCES)
        raise ParamsError(f"--weights is for networks of {libraries}", f"name the folder of a trained {name} as MODEL")
    if not file.is_file():
        raise ParamsError(f"there is no file {file}", "name a state_dict, .safetensors or .pth: --weights FILE")
    spec = factory.backbone_spec(name, _check_size(factory.native_input(name)[0] if size is None else size), "classifier")
    features = factory.build_backbone(spec, seed)
    state = read(file)
    unused = [state[key] for key in fill(features, state, str(file)) if not key.startswith(("aux", "Aux"))]
    head = [value for ndim in (2, 1) for value in unused if value.ndim == ndim]
    preprocessing = Preprocessing(spec.image_size, "crop", (0, 0, 0), *IMAGENET)
    classes: tuple[str, ...] = ()
    network = Network(features, preprocessing, 1, seed)
    if len(head) == 2 and head[0].shape[1] == features.dim:
        network = Network(features, preprocessing, len(head[0]), seed)
        network.head.load_state_dict({"weight": head[0], "bias": head[1]})
        classes = imagenet_classes() if len(head[0]) == 1000 else tuple(map(str, range(len(head[0]))))
    return InspectedNetwork(network.eval(), spec, preprocessing, classes, f"{name} with {file.name}", seed, has_file=True)


def _check_size(size: int) -> int:
    if not 1 <= size <= 2048:
        raise ParamsError(f"--size {size} is not between 1 and 2048", "give a number of pixels, 32 to 512 for most networks")
    return size


def to_tensor(images: np.ndarray) -> torch.Tensor:
    """Return images (N, S, S, 3) uint8, or one of them (S, S, 3), as a tensor (N, S, S, 3)."""
    return torch.from_numpy(np.array(images if images.ndim == 4 else images[None]))
