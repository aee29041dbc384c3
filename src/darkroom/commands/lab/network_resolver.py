"""The network that a command of the lab looks into: a trained model, or an architecture with random weights or a file of them."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darkroom.commands.lab import image_io
from darkroom.core.errors import DarkroomError, ParamsError, nearest, printable

if TYPE_CHECKING:
    import numpy as np
    import torch

    from darkroom.models.base import Network, Preprocessing

ALIASES = ("champion", "challenger")


@dataclass(frozen=True)
class Subject:
    """A network in evaluation mode, what builds it again, its class names (none where its head means nothing), and words for it."""

    network: Network
    architecture: dict[str, Any]
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    said: str
    trained: bool

    @property
    def size(self) -> int:
        """Return the pixels a side of the images that it was made for."""
        return self.preprocessing.image_size


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what says which network is meant."""
    parser.add_argument(
        "model", metavar="MODEL", help="champion, challenger, a version, a folder like models/baseline, or an architecture by name"
    )
    options(parser)


def options(parser: argparse.ArgumentParser) -> None:
    """Add what an architecture by name needs."""
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="of an architecture by name: torchvision's state_dict, .safetensors or .pth",
    )
    parser.add_argument("--size", type=int, help="of an architecture by name: pixels a side (default: those that it is made for)")
    parser.add_argument("--seed", type=int, help="draws random weights; default: compute.seed of params.yaml, or 0")


def find(given: argparse.Namespace) -> Subject:
    """Return the network that is meant; raises one error that names the remedy where there is none."""
    from darkroom.models import factory

    known = factory.known()
    if given.model in known and not Path(given.model, "model.json").is_file():
        return _by_name(given.model, given.weights, given.size, seed(given))
    if given.weights or given.size is not None:
        option = "--weights" if given.weights else "--size"
        raise ParamsError(f"{option} is for an architecture by name; {given.model} brings its own", f"leave {option} out")
    from darkroom.commands import model_resolver

    try:
        classifier, model = model_resolver.load(given.model)
    except DarkroomError as error:
        close = "" if given.model in ALIASES else nearest(given.model, known)
        if close:
            raise type(error)(f"{error.problem}{close}", f"{error.remedy}; or name an architecture", error.retryable) from error
        raise
    checkpoint = classifier.checkpoint
    return Subject(
        classifier.network, checkpoint.architecture, checkpoint.preprocessing, classifier.classes, printable(model["said"]), True
    )


def seed(given: argparse.Namespace) -> int:
    """Return the seed of random weights."""
    if given.seed is not None:
        return int(given.seed)
    if Path("params.yaml").is_file():
        from darkroom.config import params

        return params.read().compute.seed
    return 0


def _by_name(name: str, weights: Path | None, size: int | None, seed: int) -> Subject:
    from darkroom.models import backbones, factory, torchvision_names
    from darkroom.models.base import IMAGENET, Network, Preprocessing, build_features
    from darkroom.models.weights import CENTRED, fill, read

    usual, channels = factory.made_for(name)
    size = usual if size is None else size
    if not 1 <= size <= 2048:
        raise ParamsError(f"--size {size} is no size of an image", "give a number of pixels, 32 to 512 for most networks")
    spec = factory.description(name, size, channels)
    if weights:  # under torchvision's names, so it is its network that takes them
        theirs = name.removeprefix(factory.THEIRS)
        if theirs not in torchvision_names.names():
            raise ParamsError("--weights is for torchvision's networks", f"name the folder of a trained {name} as MODEL")
        spec = backbones.Spec(theirs, size, "classifier").as_dict()
    features = build_features(spec, seed)
    mean, std = IMAGENET if weights else CENTRED
    preprocessing = Preprocessing(size, "crop", (0, 0, 0), mean, std)
    head: list[Any] = []
    if weights:
        if not weights.is_file():
            raise ParamsError(f"there is no file {weights}", "name a state_dict, .safetensors or .pth: --weights FILE")
        state = read(weights)
        left = fill(features, state, str(weights))  # type: ignore[arg-type]
        head = [state[key] for key in left if state[key].ndim == 2 and not key.startswith(("aux", "Aux"))]
        head += [state[key] for key in left if state[key].ndim == 1 and not key.startswith(("aux", "Aux"))]
    network = Network(features, preprocessing, 1, seed)
    classes: tuple[str, ...] = ()
    if len(head) == 2 and head[0].shape[1] == features.dim:
        network = Network(features, preprocessing, len(head[0]), seed)
        network.head.load_state_dict({"weight": head[0], "bias": head[1]})
        classes = _imagenet() if len(head[0]) == 1000 else tuple(map(str, range(len(head[0]))))
    said = f"{name} with {weights.name}" if weights else f"{name} with random weights (seed {seed})"
    return Subject(network.eval(), spec, preprocessing, classes, said, bool(weights))


def _imagenet() -> tuple[str, ...]:
    """Return the names of ImageNet's classes, as torchvision has them."""
    from darkroom.models import lean

    return tuple(lean.torchvision().models.get_weight("MobileNet_V2_Weights.IMAGENET1K_V1").meta["categories"])


def untrained(subject: Subject, seed: int) -> Network:
    """Return the same architecture with the initial weights of a seed, in evaluation mode."""
    from darkroom.models.base import Network, build_features

    return Network(build_features(subject.architecture, seed), subject.preprocessing, max(1, len(subject.classes)), seed).eval()


def pixels(subject: Subject, path: Path) -> np.ndarray:
    """Return an image file as the network is given it, (S, S, 3) uint8."""
    wanted = subject.preprocessing
    return image_io.decoded(path, wanted.image_size, wanted.resize, wanted.background).pixels


def tensor(images: np.ndarray) -> torch.Tensor:
    """Return images (N, S, S, 3) uint8, or one of them (S, S, 3), as a tensor (N, S, S, 3)."""
    import numpy as np
    import torch

    return torch.from_numpy(np.array(images if images.ndim == 4 else images[None]))
