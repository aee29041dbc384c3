"""Any torchvision classifier as a backbone: images in, embeddings out, blocks that can be frozen one by one.

A backbone is torchvision's own network, under torchvision's own parameter names, without its last linear layer. Most
families are a chain of modules: `LAYOUTS` says where each keeps its chain, so that a network can be cut between any two
blocks. What is not a chain (VisionTransformer) works too, but runs whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn

from darkroom.core.errors import ParamsError
from darkroom.models import lean, torchvision_names
from darkroom.models.base import Chain, Step
from darkroom.models.initialization import is_drawn, kaiming

SMALL = 64  # inputs of at most this many pixels keep their resolution through the first convolution
HEADS = ("pooled", "classifier")


class Layout(NamedTuple):
    """Where a torchvision class keeps its chain of modules, what comes between chain and head, and the head."""

    body: tuple[str, ...]
    neck: tuple[str, ...]
    head: str


_GOOGLENET = "conv1 maxpool1 conv2 conv3 maxpool2 inception3a inception3b maxpool3 inception4a inception4b inception4c inception4d"
_GOOGLENET += " inception4e maxpool4 inception5a inception5b"
_INCEPTION = "Conv2d_1a_3x3 Conv2d_2a_3x3 Conv2d_2b_3x3 maxpool1 Conv2d_3b_1x1 Conv2d_4a_3x3 maxpool2 Mixed_5b Mixed_5c Mixed_5d"
_INCEPTION += " Mixed_6a Mixed_6b Mixed_6c Mixed_6d Mixed_6e Mixed_7a Mixed_7b Mixed_7c"
_RESNET = "conv1 bn1 relu maxpool layer1 layer2 layer3 layer4"
LAYOUTS: dict[str, Layout] = {
    "AlexNet": Layout(("features",), ("avgpool", "flatten"), "classifier"),
    "ConvNeXt": Layout(("features",), ("avgpool",), "classifier"),
    "DenseNet": Layout(("features",), ("relu", "pool"), "classifier"),
    "EfficientNet": Layout(("features",), ("avgpool", "flatten"), "classifier"),
    "GoogLeNet": Layout(tuple(_GOOGLENET.split()), ("avgpool", "flatten", "dropout"), "fc"),
    "Inception3": Layout(tuple(_INCEPTION.split()), ("avgpool", "dropout", "flatten"), "fc"),
    "MNASNet": Layout(("layers",), ("pool",), "classifier"),
    "MaxVit": Layout(("stem", "blocks"), (), "classifier"),
    "MobileNetV2": Layout(("features",), ("pool",), "classifier"),
    "MobileNetV3": Layout(("features",), ("avgpool", "flatten"), "classifier"),
    "RegNet": Layout(("stem", "trunk_output"), ("avgpool", "flatten"), "fc"),
    "ResNet": Layout(tuple(_RESNET.split()), ("avgpool", "flatten"), "fc"),
    "ShuffleNetV2": Layout(("conv1", "maxpool", "stage2", "stage3", "stage4", "conv5"), ("pool",), "fc"),
    "SqueezeNet": Layout(("features",), (), "classifier"),
    "SwinTransformer": Layout(("features", "norm", "permute"), ("avgpool", "flatten"), "head"),
    "VGG": Layout(("features",), ("avgpool", "flatten"), "classifier"),
}
_WHOLE_HEADS = {"VisionTransformer": "heads"}
_POOLS = (nn.MaxPool2d, nn.AvgPool2d)


class Pool(nn.Module):
    """Global average pooling: (N, C, H, W) to (N, C); what has no spatial axes passes unchanged."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3)) if x.ndim == 4 else x


@dataclass(frozen=True)
class Spec:
    """What it takes to build a backbone again: written beside every file of weights."""

    name: str
    image_size: int
    head: str = "pooled"

    def as_dict(self) -> dict[str, Any]:
        return {"family": "torchvision", **asdict(self)}


class Backbone(nn.Module):
    """A torchvision classifier without its last linear layer.

    With `head="pooled"` the embedding is the global average of the last feature map; the fully connected layers of
    AlexNet and VGG are neither built nor stored. With `head="classifier"` it is what the network's own last linear
    layer would have been given. Inputs of up to 64 pixels run with the stride of the first convolution at 1, whose
    weights are the same. Weights are drawn from `seed`; `load` replaces them.

    forward: (N, 3, S, S) float32, normalised, to (N, `dim`) float32.
    """

    def __init__(self, spec: Spec, seed: int = 0) -> None:
        super().__init__()
        torchvision_names.check(spec.name)
        self.spec = spec
        self.net = _network(spec, seed)
        if type(self.net)._load_from_state_dict is not nn.Module._load_from_state_dict:
            # MNASNet asks a file for the version of its layout, which safetensors do not keep
            self.net._load_from_state_dict = partial(nn.Module._load_from_state_dict, self.net)  # type: ignore[method-assign]
        layout = LAYOUTS.get(type(self.net).__name__)
        self.sequential = layout is not None
        head = layout.head if layout else _WHOLE_HEADS[type(self.net).__name__]
        own = _own_layers(getattr(self.net, head)) if spec.head == "classifier" or not layout else []
        setattr(self.net, head, nn.Sequential(*own))
        if layout:
            self._blocks = _blocks([unit for part in layout.body for unit in _units(getattr(self.net, part))])
            neck = layout.neck if spec.head == "classifier" else ("pool",)
            self._neck: list[nn.Module] = [*(_neck_part(self.net, part) for part in neck), *own, Pool()]
        else:
            layers = self.net.get_submodule("encoder.layers").children()
            self._blocks = [[self.net.get_submodule("conv_proj")], *([layer] for layer in layers)]
            self._neck = []
        _materialize(self, spec, seed)
        if spec.image_size <= SMALL:
            _widen_stem(self.net)
        self.eval()
        with torch.inference_mode():
            self.dim = int(self(torch.zeros(1, 3, spec.image_size, spec.image_size)).shape[1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.upper(self.lower(x, len(self._blocks)), len(self._blocks)) if self.sequential else self.net(x)

    @property
    def block_count(self) -> int:
        return len(self._blocks)

    def block(self, index: int) -> nn.ModuleList:
        """Return the modules of one block, counted from the input."""
        return nn.ModuleList(self._blocks[index])

    def lower(self, x: torch.Tensor, cut: int) -> torch.Tensor:
        """Return what the blocks before `cut` make of the images: (N, C, H, W)."""
        for block in self._blocks[:cut]:
            for module in block:
                x = module(x)
        return x

    def upper(self, x: torch.Tensor, cut: int) -> torch.Tensor:
        """Return the embeddings, (N, `dim`), from what the blocks before `cut` made."""
        for block in self._blocks[cut:]:
            for module in block:
                x = module(x)
        for module in self._neck:
            x = module(x)
        return x

    def chain(self) -> Chain | None:
        """Return the steps that make the embedding; None for transformers, whose maps are no maps of channels."""
        if not self.sequential or type(self.net).__name__ == "SwinTransformer":
            return None

        def block(modules: list[nn.Module]) -> Step:
            def step(x: torch.Tensor) -> torch.Tensor:
                for module in modules:
                    x = module(x)
                return x

            return step

        return [block(modules) for modules in self._blocks], lambda x: self.upper(x, self.block_count)

    def own_head(self) -> nn.ModuleList:
        """Return the fully connected layers that the embedding passes through, if any: the last block of all."""
        return nn.ModuleList([m for m in self._neck if next(m.parameters(), None) is not None])

    def weights(self) -> dict[str, torch.Tensor]:
        """Return the weights under torchvision's own names."""
        return self.net.state_dict()

    def is_head(self, key: str) -> bool:
        """Tell whether a name in a torchvision file belongs to the classifier that a backbone does without."""
        layout = LAYOUTS.get(type(self.net).__name__)
        head = layout.head if layout else _WHOLE_HEADS[type(self.net).__name__]
        return key.split(".")[0] in (head, "aux1", "aux2", "AuxLogits") and key not in self.net.state_dict()


def classifier(name: str, image_size: int, classes: int) -> nn.Module:
    """Return torchvision's whole classifier to look at: its tensors have shapes and no memory.

    Up to 64 pixels its first convolution has stride 1, as a backbone's. Raises ParamsError for an unknown name.
    """
    torchvision_names.check(name)
    net = _network(Spec(name, image_size), 0, num_classes=classes).to("meta")
    if image_size <= SMALL:
        _widen_stem(net)
    return net


def _network(spec: Spec, seed: int, device: str = "meta", **options: Any) -> nn.Module:
    """Build torchvision's network; on the meta device its tensors have shapes and no memory."""
    if spec.name in ("googlenet", "inception_v3"):
        options |= {"aux_logits": False, "init_weights": False, "transform_input": False}
    elif spec.name.startswith("vit_"):
        options |= {"image_size": spec.image_size}
    elif spec.name.startswith("maxvit_"):
        options |= {"input_size": (spec.image_size, spec.image_size)}
    get_model = lean.torchvision().models.get_model
    undrawn = lean.Undrawn() if device == "meta" else nullcontext()
    with torch.random.fork_rng(devices=[]), torch.device(device), undrawn:
        torch.manual_seed(seed)
        try:
            return get_model(spec.name, weights=None, **options)
        except NotImplementedError:  # RegNet computes its widths with tensors, which the meta device cannot
            with torch.device("cpu"):
                return get_model(spec.name, weights=None, **options)
        except (ValueError, RuntimeError, AssertionError) as error:
            raise ParamsError(
                f"{spec.name} cannot be built for images of {spec.image_size} pixels: {error}",
                "change `ingest.image_size` (most networks take any size, transformers multiples of their patch)",
            ) from error


def _materialize(backbone: Backbone, spec: Spec, seed: int) -> None:
    """Give the parameters memory and values; only what is left of the network after its head was cut is allocated."""
    if all(is_drawn(module) for module in backbone.net.modules()):
        state = backbone.net.state_dict()
        for key, value in state.items():  # to_empty would import torch's symbolic algebra, which takes half a second
            state[key] = torch.empty(value.shape, dtype=value.dtype)
        backbone.net.load_state_dict(state, assign=True)
        for module in backbone.net.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.reset_running_stats()
        kaiming(backbone.net, seed)
    else:  # parameters with an initialisation of their own: class tokens, position tables, layer scales
        drawn = _network(spec, seed, device="cpu").state_dict()
        backbone.net.to_empty(device="cpu")
        backbone.net.load_state_dict({key: drawn[key] for key in backbone.net.state_dict()})
        full = dict(_network(spec, seed, device="cpu").named_buffers())
        for name, buffer in backbone.net.named_buffers():
            buffer.copy_(full[name])


def _own_layers(head: nn.Module) -> list[nn.Module]:
    """Return the layers of a head before its last linear (or 1×1 convolution) layer."""
    layers = list(head.children()) or [head]
    last = max(i for i, layer in enumerate(layers) if isinstance(layer, (nn.Linear, nn.Conv2d)))
    return layers[:last]


def _units(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the links of a chain: plain containers are opened, everything else is one link."""
    if type(module) in (nn.Sequential, nn.ModuleList):
        for child in module.children():
            yield from _units(child)
    else:
        yield module


def _blocks(units: list[nn.Module]) -> list[list[nn.Module]]:
    """Group a chain into blocks: single layers up to and with a pooling layer, or one composite module."""
    blocks: list[list[nn.Module]] = [[]]
    closed = False
    for unit in units:
        composite = next(unit.children(), None) is not None
        weightless = next(unit.parameters(), None) is None
        if blocks[-1] and not weightless and (closed or composite):
            blocks.append([])
        blocks[-1].append(unit)
        closed = composite or isinstance(unit, _POOLS) or (closed and weightless)
    return blocks


def _neck_part(net: nn.Module, part: str) -> nn.Module:
    made = {"pool": Pool(), "relu": nn.ReLU(), "flatten": nn.Flatten(1)}
    return getattr(net, part) if hasattr(net, part) and part != "relu" else made[part]


def _widen_stem(net: nn.Module) -> None:
    """Set the first strided convolution to stride 1."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            if module.stride == (2, 2):
                module.stride = (1, 1)
            return
