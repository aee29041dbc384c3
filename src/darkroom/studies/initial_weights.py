"""The network of a member before its first step: drawn, taken from files, or trained before on something else."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

from safetensors.torch import load_file
from torch import nn

from darkroom.core import atomic
from darkroom.core.errors import ParamsError
from darkroom.models import factory, init
from darkroom.models.architectures.features import Classic
from darkroom.models.backbones import Backbone
from darkroom.models.base import build_features, new_head, width
from darkroom.models.checkpoint import save_tensors
from darkroom.models.compact import Compact
from darkroom.studies.batches import Feed
from darkroom.studies.run_config import Member, Sample

PROBED = 256  # images of a look at the layers


def build(member: Member, sample: Sample, feed: Feed, started: Path | None = None) -> nn.Sequential:
    """Return a member's network, (N, C, S, S) float32 to logits (N, classes), as it is before the first step.

    `started` is the file that the network of `member.start` was kept in.
    """
    channels, size = sample.train_images.shape[1:3]
    described = factory.description(member.architecture, size, channels, member.options)
    features = build_features(described, member.seed)
    if member.weights:
        _filled(features, member.weights)
    if started:
        features.load_state_dict(load_file(started))
    made = nn.Sequential()
    made.add_module("features", features)
    made.add_module("head", new_head(width(features), sample.classes, member.seed))
    if member.scheme:
        init.initialize(made, member.scheme, member.seed, feed.normalized(feed.x[:PROBED]).cpu())
    return made if member.blocks is None else Frozen(made, member.blocks)


def _filled(features: nn.Module, source: str) -> None:
    """Give a torchvision network its ImageNet weights, downloaded or from a folder of files."""
    from darkroom.models import weight_files, weights

    if not isinstance(features, Backbone):
        raise ParamsError("there are weights on file for torchvision's networks alone", "name one of them, as torchvision/NAME")
    name = features.spec.name
    file = weights.download(name)[0] if source == "imagenet" else weight_files.find(Path(source).expanduser(), name)
    weights.fill(features, weights.read(file), str(file))


def blocks(features: nn.Module) -> list[list[nn.Module]]:
    """Return the parts of a network, from the image on: each layer or block with weights, and what follows it up to the next.

    Normalisation that is a module of its own belongs to the layer before it.
    """
    if isinstance(features, Compact):
        chain = [layer for stage in features.stages for layer in stage.children()]
    elif isinstance(features, Classic):
        chain = [*features.body, *features.neck]
    else:
        assert isinstance(features, Backbone)
        chain = [module for i in range(features.block_count) for module in features.block(i)] + list(features.own_head())
    units: list[list[nn.Module]] = []
    for module in chain:
        if not units or any(parameter.dim() > 1 for parameter in module.parameters()):
            units.append([])
        units[-1].append(module)
    return units


class Frozen(nn.Sequential):
    """A network of which the head and the last `count` blocks are trained; what is below stays as it is, and answers as in use.

    Raises ParamsError where there are not so many blocks.
    """

    still: list[nn.Module]

    def __init__(self, network: nn.Sequential, count: int) -> None:
        super().__init__(OrderedDict(network.named_children()))
        self.requires_grad_(False)
        units = blocks(self.features)  # type: ignore[arg-type]
        if count >= len(units):
            raise ParamsError(f"{count} blocks are to be trained, and the network has {len(units)}", "lower `blocks`")
        for module in (self.head, *(module for unit in units[len(units) - count :] for module in unit)):
            module.requires_grad_(True)  # type: ignore[operator]
        self.still = [module for unit in units[: len(units) - count] for module in unit] if count else [self.features]  # type: ignore[list-item]

    def train(self, mode: bool = True) -> Frozen:
        super().train(mode)
        for module in self.still:
            module.eval()
        return self


def keep(network: nn.Module, file: Path) -> None:
    """Write the weights of a network without its head."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic.new_file(file) as working:
        save_tensors(working, network.features.state_dict())  # type: ignore[union-attr, operator]
