"""A project's own networks as backbones: classes of `backbones/*.py`, under their own parameter names.

A class is a module of torch's whose `forward` turns images (N, 3, S, S) into features (N, D), or into a map (N, C, H, W), of which
the mean is taken. Where it names its layers in `chain`, the network can be cut between any two of them; else it runs whole.
"""

from __future__ import annotations

import inspect
import sys
import traceback
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from darkroom.core import machine_limits
from darkroom.core.errors import DarkroomError, OwnCodeError, WeightsError, nearest
from darkroom.models.backbones import chains, own_code
from darkroom.models.backbones.own_code import DIGEST, PREFIX, Code
from darkroom.models.base import IMAGENET, Backbone, Channels, GlobalPool
from darkroom.models.specs import BackboneSpec

CHAIN = "chain"
TOLERANCE = 1e-4  # largest difference of features that rounding explains, relative to the largest feature
_POOLS = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.AvgPool2d, nn.Flatten, nn.Dropout, nn.Identity)  # after the last map


class OwnBackbone(Backbone):
    """A network of the project's own, with weights drawn from `seed` by torch's random numbers.

    Both heads, `pooled` and `classifier`, are the features that it returns. Raises OwnCodeError, with the line of the file, where
    its code cannot be run or does not give features.
    """

    def __init__(self, spec: BackboneSpec, seed: int = 0) -> None:
        super().__init__()
        self.spec = spec
        self.code = own_code.find(spec.name, spec.options.get(DIGEST))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            entry = _entry(spec.name, self.code)
            self.net = _network(entry, spec, self.code)
            self.net.eval()
            self.dim = self._features(_noise(spec.image_size, 1)).shape[1]  # it also gives lazy layers their shapes
        links = self._links(getattr(self.net, CHAIN, getattr(entry, CHAIN, None)))
        self.sequential = bool(links)
        neck = next((i for i in range(len(links), 0, -1) if not isinstance(links[i - 1], _POOLS)), 0)
        self._blocks = chains.blocks(links[:neck]) if links else chains.parts(self.net)
        self._neck = [*links[neck:], GlobalPool()] if links else []
        self._has_maps: bool | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.sequential:
            return super().forward(x)
        features: torch.Tensor = self.net(x)
        return features.mean((2, 3)) if features.ndim == 4 else features

    def has_feature_maps(self) -> bool:
        if self._has_maps is None:
            self._has_maps = self.sequential and all(x.ndim == 4 for x in self._outputs(_noise(self.spec.image_size, 1)))
        return self._has_maps

    def check(self) -> None:
        """Raise OwnCodeError where features are not finite, differ from call to call or with the other images, or are not the
        chain's.
        """
        images = _noise(self.spec.image_size, 2)
        features, again, alone = (self._features(x) for x in (images, images, images[:1]))
        largest = features.abs().amax().clamp(min=1e-30)
        if not features.isfinite().all():
            raise self._error("gives NaN or infinity for images of noise", "look for divisions and logarithms in it")
        if not torch.equal(features, again):
            raise self._error(
                "gives other features for the same images each time", "F.dropout takes training=self.training; nn.Dropout knows it"
            )
        if not torch.allclose(features[:1] / largest, alone / largest, atol=TOLERANCE):
            raise self._error("gives other features for an image beside other images", "compute along the images' own axes alone")
        if self.sequential:
            with _running(self.spec.name, self.code, f"its {CHAIN} fails"), torch.no_grad():
                of_chain = super().forward(images)
            # a mean may round otherwise than the pooling that forward calls
            if of_chain.shape != features.shape or not torch.allclose(of_chain / largest, features / largest, atol=TOLERANCE):
                raise self._error(
                    f"gives other features than the layers of its {CHAIN} one after the other",
                    f"name all layers that forward calls, in their order, as modules (nn.ReLU, not F.relu); or leave {CHAIN} out, "
                    "then the network runs whole",
                )

    def is_head(self, key: str) -> bool:
        """Tell whether a weight is of a layer that the network has replaced by one without weights, as `fc` by nn.Identity."""
        modules, name = dict(self.net.named_modules()), key.rpartition(".")[0]
        while name not in modules:  # `classifier.1` of a classifier that was a chain
            name = name.rpartition(".")[0]
        return bool(name) and not modules[name].state_dict()

    def _links(self, chain: Any) -> list[nn.Module]:
        """Return the layers that `chain` names, plain containers opened; those of an nn.Sequential that has no chain."""
        if chain is None:
            return list(chains.units(nn.Sequential(*self.net))) if type(self.net) is nn.Sequential else []
        if isinstance(chain, str) or not isinstance(chain, (tuple, list)) or not all(isinstance(name, str) for name in chain):
            raise self._error(f"has a {CHAIN} that is no list of names", f'write {CHAIN} = ("stem", "layer1")')
        modules = dict(self.net.named_modules())
        for name in chain:
            if name not in modules or not name:
                raise self._error(
                    f'has no layer "{name}", which its {CHAIN} names{nearest(name, modules)}', "name attributes that are modules"
                )
        return [unit for name in chain for unit in chains.units(modules[name])]

    def _outputs(self, x: torch.Tensor) -> Iterator[torch.Tensor]:
        with torch.no_grad():
            for block in range(self.block_count):
                x = nn.Sequential(*self.block(block))(x)
                yield x

    def _features(self, images: torch.Tensor) -> torch.Tensor:
        """Return the features of images; raises OwnCodeError where they are none."""
        size = self.spec.image_size
        with _running(self.spec.name, self.code, f"it fails for images of {size} pixels"), torch.no_grad():
            features = self.net(images)
        shown = f"a tensor {tuple(features.shape)}" if isinstance(features, torch.Tensor) else f"a {type(features).__name__}"
        is_one = isinstance(features, torch.Tensor) and features.is_floating_point() and features.ndim in (2, 4)
        if not is_one or len(features) != len(images) or not features.numel():
            raise self._error(
                f"returns {shown} for {len(images)} images of {size} pixels",
                f"forward returns features ({len(images)}, D), or a map ({len(images)}, C, H, W), of which the mean is taken",
            )
        return features.mean((2, 3)) if features.ndim == 4 else features

    def _error(self, problem: str, remedy: str) -> OwnCodeError:
        return OwnCodeError(f"{PREFIX}{self.spec.name} in {self.code.path} {problem}", f"correct the file: {remedy}")


def build(spec: BackboneSpec, seed: int) -> OwnBackbone:
    """Return the backbone of a description, with weights drawn from the seed."""
    return OwnBackbone(spec, seed)


def classifier(name: str, image_size: int, classes: int) -> nn.Module:
    """Return the network with a linear layer on its features."""
    backbone = OwnBackbone(BackboneSpec(name, image_size, source="own", options=own_code.options(name)))
    return nn.Sequential(OrderedDict(net=backbone.net, pool=GlobalPool(), head=nn.Linear(backbone.dim, classes)))


def download(name: str) -> tuple[Path, dict[str, Any]]:
    raise WeightsError(f"{PREFIX}{name} has no ImageNet weights", "set `weights.source` to folder, pretrain or random")


def describe_weights(name: str) -> dict[str, Any]:
    """Return nothing: the file does not say it."""
    return {}


def normalization(name: str) -> tuple[Channels, Channels]:
    """Return `mean` and `std` of the class, each of three numbers; where it has none, those of ImageNet."""
    code = own_code.read(own_code.split(name)[0])
    entry = _entry(name, code)
    try:
        mean, std = (
            tuple(map(float, getattr(entry, key, default))) for key, default in zip(("mean", "std"), IMAGENET, strict=True)
        )
        if len(mean) != 3 or len(std) != 3 or not all(value > 0 for value in std) or not all(map(_is_finite, (*mean, *std))):
            raise ValueError
    except (TypeError, ValueError) as error:
        raise OwnCodeError(
            f"mean and std of {PREFIX}{name} are not three numbers each, of one per channel from 0 to 1",
            f"write mean = {IMAGENET[0]} and std = {IMAGENET[1]} into the class in {code.path}",
        ) from error
    return mean, std


def _is_finite(value: float) -> bool:
    return abs(value) < float("inf")


def _noise(size: int, count: int) -> torch.Tensor:
    """Return the same images (count, 3, size, size) float32 each time, in the memory format of the stages."""
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    return images[:count].contiguous(memory_format=torch.channels_last)


def _entry(name: str, code: Code) -> Callable[..., Any]:
    """Return the class or function of FILE.NAME; raises OwnCodeError where its file cannot be run, or has none."""
    attribute = own_code.split(name)[1]
    with _running(name, code, "it cannot be imported"):
        entry = getattr(_module(code), attribute, None)
    if not callable(entry) or isinstance(entry, nn.Module):
        raise OwnCodeError(f"{code.path} has no class {attribute}", "write a class, or a function that returns a module")
    return entry


@cache
def _module(code: Code) -> ModuleType:
    """Run a file as a module of its own; another version of it is another module."""
    module = ModuleType(f"darkroom_own_{code.path.stem}_{code.sha256[:12]}")
    module.__file__ = str(code.path)
    sys.modules[module.__name__] = module  # dataclasses and typing look there
    try:
        exec(compile(code.content, str(code.path), "exec", dont_inherit=True), vars(module))
    except BaseException:
        del sys.modules[module.__name__]
        raise
    return module


def _network(entry: Callable[..., Any], spec: BackboneSpec, code: Code) -> nn.Module:
    """Return the module that a class or function makes; one with an argument `image_size` is given it."""
    with _running(spec.name, code, "it cannot be built"):
        parameters = inspect.signature(entry).parameters
        net = entry(**({"image_size": spec.image_size} if "image_size" in parameters else {}))
    if not isinstance(net, nn.Module):
        raise OwnCodeError(
            f"{PREFIX}{spec.name} in {code.path} is a {type(net).__name__}, and no torch.nn.Module",
            "write class NAME(nn.Module), or a function that returns a module",
        )
    return net


@contextmanager
def _running(name: str, code: Code, problem: str) -> Iterator[None]:
    """Turn an error of a person's code into an OwnCodeError with the line of their file; `--debug` shows its traceback."""
    try:
        yield
    except DarkroomError:
        raise
    except (Exception, SystemExit) as error:
        machine_limits.check(error)
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(code.path)]
        line = getattr(error, "lineno", None) or (lines[-1] if lines else None)
        place = f"{code.path}, line {line}" if line else str(code.path)
        reason = (str(error).strip().splitlines() or [""])[0]
        raise OwnCodeError(
            f"{PREFIX}{name}: {problem}: {type(error).__name__}: {reason} ({place})", _remedy(error, problem)
        ) from error


def _remedy(error: BaseException, problem: str) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        if (own_code.FOLDER / f"{error.name}.py").exists():
            return "a network is one file: put what it imports into it, or into a package that is installed"
        return f"install what it imports: `pip install {error.name.partition('.')[0]}`, or whatever package has it"
    if isinstance(error, TypeError) and "argument" in str(error) and "built" in problem:
        return "give all arguments of the class defaults; one called image_size is given the pixels a side"
    if "view size is not compatible" in str(error):
        return "write x.flatten(1) or x.reshape(…) in place of x.view(…): images come in channels-last memory"
    if "pixels" in problem:
        return "correct the file, or change `ingest.image_size`; `darkroom --debug …` shows the traceback"
    return "correct the file; `darkroom --debug …` shows the traceback"
