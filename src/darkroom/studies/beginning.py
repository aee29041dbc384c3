"""The network of a member before its first step: drawn, taken from files, or trained before on something else."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file
from torch import nn

from darkroom import atomic
from darkroom.errors import ParamsError
from darkroom.models import architectures, schemes
from darkroom.models.backbones import Backbone
from darkroom.models.checkpoint import save_tensors
from darkroom.models.classic.features import Classic
from darkroom.models.compact import Compact
from darkroom.models.network import build_features, new_head, width
from darkroom.studies.feeding import Feed
from darkroom.studies.members import Member, Sample

PROBED = 256  # images of a look at the layers


def build(member: Member, sample: Sample, feed: Feed, started: Path | None = None) -> nn.Sequential:
    """Return a member's network, (N, C, S, S) float32 to logits (N, classes), as it is before the first step.

    `started` is the file that the network of `member.start` was kept in.
    """
    channels, size = sample.train_images.shape[1:3]
    described = architectures.description(member.architecture, size, channels, member.options)
    features = build_features(described, member.seed)
    if member.weights:
        _filled(features, member.weights)
    if started:
        features.load_state_dict(load_file(started))
    made = nn.Sequential()
    made.add_module("features", features)
    made.add_module("head", new_head(width(features), sample.classes, member.seed))
    if member.scheme:
        schemes.initialize(made, member.scheme, member.seed, feed.normalized(feed.x[:PROBED]).cpu())
    if member.blocks is not None:
        freeze(made, member.blocks)
    return made


def _filled(features: nn.Module, source: str) -> None:
    """Give a torchvision network its ImageNet weights, downloaded or from a folder of files."""
    from darkroom.models import files, weights

    if not isinstance(features, Backbone):
        raise ParamsError("there are weights on file for torchvision's networks alone", "name one of them, as torchvision/NAME")
    name = features.spec.name
    file = weights.download(name)[0] if source == "imagenet" else files.find(Path(source).expanduser(), name)
    weights.fill(features, weights.read(file), str(file))


def blocks(features: nn.Module) -> list[list[nn.Module]]:
    """Return the parts of a network that have weights, from the image on: layers or blocks of its chain."""
    if isinstance(features, Compact):
        units = [[layer] for stage in features.stages for layer in stage.children()]
    elif isinstance(features, Classic):
        units = [[layer] for layer in (*features.body, *features.neck)]
    else:
        assert isinstance(features, Backbone)
        units = [list(features.block(i)) for i in range(features.block_count)]
        units += [list(features.own_head())] if len(features.own_head()) else []
    return [unit for unit in units if any(True for module in unit for _ in module.parameters())]


def freeze(network: nn.Sequential, count: int) -> None:
    """Leave the head and the last `count` blocks to be trained; what is below them stays as it is, statistics too."""
    network.requires_grad_(False)
    network.head.requires_grad_(True)  # type: ignore[union-attr]
    units = blocks(network.features)  # type: ignore[arg-type]
    for unit in units[max(0, len(units) - count) :]:
        for module in unit:
            module.requires_grad_(True)


def train_mode(group: nn.Module) -> None:
    """Put a network into training mode, except for modules whose weights are frozen: they answer as they would in use."""
    group.train()
    for module in group.modules():
        own = list(module.parameters(recurse=False))
        if own and not any(parameter.requires_grad for parameter in own):
            module.eval()


def keep(network: nn.Module, file: Path) -> None:
    """Write the weights of a network without its head."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic.new_file(file) as working:
        save_tensors(working, network.features.state_dict())  # type: ignore[union-attr, operator]
