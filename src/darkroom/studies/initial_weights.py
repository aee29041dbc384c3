"""The network of a run before its first step: drawn at random, read from a file, or taken from another run."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

from torch import nn

from darkroom.core import atomic
from darkroom.core.errors import ParamsError, WeightsError
from darkroom.models import factory, init, pretrained, tensor_files, weight_files
from darkroom.models.architectures.compact import Compact
from darkroom.models.architectures.features import Classic
from darkroom.models.backbones import hub_folders
from darkroom.models.backbones import registry as backbones
from darkroom.models.base import Backbone, Features, new_head
from darkroom.models.specs import BackboneSpec
from darkroom.studies.run_config import RunConfig, weight_source
from darkroom.studies.samples import SampleLoader

PROBE_IMAGES = 256  # of a probe, and of a scheme that looks at activations


def build_network(config: RunConfig, loader: SampleLoader, initial: Path | None = None) -> nn.Sequential:
    """Return the network of a run before its first step: (N, C, S, S) float32 to logits (N, classes).

    `initial` is the file with the last weights of `config.pretraining`.
    """
    channels, size = loader.train_x.shape[1:3]
    spec = factory.make_spec(config.architecture, size, channels, config.options)
    if config.weights:
        features: Features = pretrained.load(config.architecture, size, "pooled", *weight_source(config.weights))[0]
    else:
        features = factory.build_features(spec, config.seed)
    if initial:
        features.load_state_dict(tensor_files.load(initial, f"delete it: `rm {initial}`; the study trains it again"))
    head = new_head(features.dim, loader.classes, config.seed)
    network = nn.Sequential(OrderedDict(features=features, head=head))
    if config.scheme:
        init.initialize(network, config.scheme, config.seed, loader.normalize(loader.train_x[:PROBE_IMAGES]).cpu())
    return network if config.trained_blocks is None else PartlyFrozen(network, config.trained_blocks)


def check_weights(architecture: str, weights: str) -> None:
    """Raise ParamsError where a network has no weights of `RunConfig.weights`; says what a study can set instead."""
    if not isinstance(factory.make_spec(architecture, *factory.native_input(architecture)), BackboneSpec):
        problem = f"{architecture} is a network of Darkroom's, and weight files are those of libraries"
        raise ParamsError(problem, "`--set architecture=torchvision/NAME` or timm/NAME, or other `sources` than imagenet")
    source, folder = weight_source(weights)
    if backbones.weights_source(architecture, source) != source:
        raise ParamsError(
            f"no package has the weights of {architecture}",
            "`--set architecture=timm/efficientnet_lite0`, or `--set weights=FOLDER` of <network>.safetensors or .pth files",
        )
    if source == "folder" and not hub_folders.is_named(architecture):
        try:
            weight_files.find(folder, architecture)
        except WeightsError as error:
            remedy = "`--set weights=FOLDER` names another folder, `--set architecture=NAME` another network"
            raise ParamsError(error.problem, remedy) from None


def split_blocks(features: nn.Module) -> list[list[nn.Module]]:
    """Return the modules of a network as blocks, each from a module with a weight matrix to the next.

    Normalisation that is a module of its own belongs to the block before it.
    """
    if isinstance(features, Compact):
        modules = [layer for stage in features.stages for layer in stage.children()]
    elif isinstance(features, Classic):
        modules = [*features.body, *features.neck]
    else:
        assert isinstance(features, Backbone)
        modules = [module for i in range(features.block_count) for module in features.block(i)] + list(features.own_head())
    blocks: list[list[nn.Module]] = []
    for module in modules:
        if not blocks or any(parameter.dim() > 1 for parameter in module.parameters()):
            blocks.append([])
        blocks[-1].append(module)
    return blocks


class PartlyFrozen(nn.Sequential):
    """A network of which only the head and the last `count` blocks are trained.

    The rest stays in evaluation mode. Raises ParamsError if the network does not have more than `count`
    blocks.
    """

    frozen: list[nn.Module]

    def __init__(self, network: nn.Sequential, count: int) -> None:
        super().__init__(OrderedDict(network.named_children()))
        self.requires_grad_(False)
        blocks = split_blocks(self.features)  # type: ignore[arg-type]
        if count >= len(blocks):
            raise ParamsError(f"{count} blocks cannot be trained: the network has {len(blocks)}", "lower `blocks`")
        cut = len(blocks) - count
        for module in (self.head, *(module for block in blocks[cut:] for module in block)):
            module.requires_grad_(True)  # type: ignore[operator]
        self.frozen = [module for block in blocks[:cut] for module in block] if count else [self.features]  # type: ignore[list-item]

    def split(self) -> tuple[nn.Module, nn.Module]:
        """Return the frozen part, from images to maps or embeddings, and the rest, from those to logits.

        One after the other they are the network, with its own modules. A network that is no chain of blocks is
        frozen whole, or not split: the first part then changes nothing.
        """
        features, head = self.get_submodule("features"), self.get_submodule("head")
        if self.frozen == [features]:
            return features, head
        if not (isinstance(features, Backbone) and features.sequential):
            return nn.Identity(), self
        modules = features.modules_in_order()
        cut = 1 + max(i for i, module in enumerate(modules) if any(module is one for one in self.frozen))
        return nn.Sequential(*modules[:cut]), nn.Sequential(*modules[cut:], head)

    def train(self, mode: bool = True) -> PartlyFrozen:
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self


def save_features(network: nn.Module, file: Path) -> None:
    """Write the weights of a network without its head."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic.new_file(file) as working:
        tensor_files.save(working, network.features.state_dict())  # type: ignore[union-attr, operator]
