"""Any torchvision classifier as a backbone, under torchvision's own parameter names.

Most families are a chain of modules: `LAYOUTS` says where each keeps its chain, so that a network can be cut
between any two blocks. Vision transformers are not; they run whole.
"""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from darkroom.core import deadline, machine_limits
from darkroom.core.errors import ParamsError, WeightsError
from darkroom.core.os_errors import is_retryable
from darkroom.models import weight_files
from darkroom.models.backbones import chains
from darkroom.models.backbones import registry as backbones
from darkroom.models.backbones.torchvision_import import torchvision
from darkroom.models.base import IMAGENET, SMALL_IMAGE, Backbone, Channels, GlobalPool
from darkroom.models.init import SkipInit, is_drawn, kaiming
from darkroom.models.specs import BackboneSpec


class Layout(NamedTuple):
    """Where a torchvision class keeps its chain of modules, the parts between chain and head, and the head."""

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
_WHOLE_HEADS = {"VisionTransformer": "heads"}  # of networks that are no chain


class TorchvisionBackbone(Backbone):
    """A torchvision classifier without its last linear layer, with weights drawn from `seed`.

    Images of up to 64 pixels run with the stride of the first convolution at 1; the weights are the same.
    Raises ParamsError for an unknown name, or an image size that the network cannot take.
    """

    def __init__(self, spec: BackboneSpec, seed: int = 0) -> None:
        super().__init__()
        backbones.find(f"torchvision/{spec.name}")
        self.spec = spec
        self.net = _network(spec, seed)
        if type(self.net)._load_from_state_dict is not nn.Module._load_from_state_dict:
            # MNASNet reads the version of its layout from the file, which safetensors do not keep
            self.net._load_from_state_dict = partial(nn.Module._load_from_state_dict, self.net)  # type: ignore[method-assign]
        layout = LAYOUTS.get(type(self.net).__name__)
        self.sequential = layout is not None
        head = _head_name(self.net)
        own_layers = _own_layers(getattr(self.net, head)) if spec.head == "classifier" or not layout else []
        setattr(self.net, head, nn.Sequential(*own_layers))
        if layout:
            self._blocks = chains.blocks([unit for part in layout.body for unit in chains.units(getattr(self.net, part))])
            neck = layout.neck if spec.head == "classifier" else ("pool",)
            self._neck = [*(_neck_part(self.net, part) for part in neck), *own_layers, GlobalPool()]
        else:
            layers = self.net.get_submodule("encoder.layers").children()
            self._blocks = [[self.net.get_submodule("conv_proj")], *([layer] for layer in layers)]
            self._neck = []
        _materialize(self, seed)
        if spec.image_size <= SMALL_IMAGE:
            chains.widen_stem(self.net)
        self.eval()
        with torch.inference_mode():
            self.dim = int(self(torch.zeros(1, 3, spec.image_size, spec.image_size)).shape[1])

    def has_feature_maps(self) -> bool:
        return self.sequential and type(self.net).__name__ != "SwinTransformer"

    def is_head(self, key: str) -> bool:
        return key.split(".")[0] in (_head_name(self.net), "aux1", "aux2", "AuxLogits") and key not in self.net.state_dict()


def build(spec: BackboneSpec, seed: int) -> TorchvisionBackbone:
    """Return the backbone of a description, with weights drawn from the seed."""
    return TorchvisionBackbone(spec, seed)


def normalization(name: str) -> tuple[Channels, Channels]:
    """Return the mean and standard deviation per channel that the ImageNet weights were trained with."""
    if name in ("googlenet", "inception_v3"):  # their own input transform, which backbones are built without
        return (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    return IMAGENET


def describe_weights(name: str) -> dict[str, Any]:
    """Return nothing: torchvision does not say the licence of its weights."""
    return {}


def classifier(name: str, image_size: int, classes: int) -> nn.Module:
    """Return torchvision's whole classifier on the meta device: its tensors have shapes and no memory.

    Up to 64 pixels its first convolution has stride 1, as a backbone's. Raises ParamsError for an unknown
    name.
    """
    backbones.find(f"torchvision/{name}")
    net = _network(BackboneSpec(name, image_size), 0, num_classes=classes).to("meta")
    if image_size <= SMALL_IMAGE:
        chains.widen_stem(net)
    return net


def download(name: str) -> tuple[Path, dict[str, Any]]:
    """Return the file of torchvision's default ImageNet weights, from its cache or its server, and where it
    comes from.

    The hash in the file's name is checked, also in the cache. Raises WeightsError where it differs, or where the server
    cannot be reached, with the file's name and the folder to put it in.
    """
    weights = torchvision.models.get_model_weights(name).DEFAULT
    file = weights.url.rsplit("/", 1)[-1]
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    if (cache / file).is_file():
        try:
            weight_files.checked_sha256(cache / file)
        except WeightsError as error:
            raise WeightsError(error.problem, f"delete it, so that it is fetched again: `rm {cache / file}`") from error
    try:
        with deadline.no_silence():
            weights.get_state_dict(progress=True, check_hash=True)
    except Exception as error:
        (cache / f"{file}.partial").unlink(missing_ok=True)
        machine_limits.check(error)
        raise WeightsError(
            f"the ImageNet weights of {name} cannot be fetched from {weights.url}: {error}",
            f"place {file} in {cache}, or in a folder of your own and name that: `darkroom recipe --weights FOLDER`; or set "
            "`weights.source` to pretrain",
            is_retryable(error),
        ) from error
    return cache / file, {"torchvision": str(weights), "url": weights.url}


def imagenet_classes() -> tuple[str, ...]:
    """Return the names of ImageNet's 1,000 classes, in the order of the weights."""
    return tuple(torchvision.models.get_weight("MobileNet_V2_Weights.IMAGENET1K_V1").meta["categories"])


def _head_name(net: nn.Module) -> str:
    """Return the attribute in which a torchvision network keeps its classifier."""
    layout = LAYOUTS.get(type(net).__name__)
    return layout.head if layout else _WHOLE_HEADS[type(net).__name__]


def _network(spec: BackboneSpec, seed: int, device: str = "meta", **options: Any) -> nn.Module:
    """Build torchvision's network; on the meta device its tensors have shapes and no memory."""
    if spec.name in ("googlenet", "inception_v3"):
        options |= {"aux_logits": False, "init_weights": False, "transform_input": False}
    elif spec.name.startswith("vit_"):
        options |= {"image_size": spec.image_size}
    elif spec.name.startswith("maxvit_"):
        options |= {"input_size": (spec.image_size, spec.image_size)}
    get_model = torchvision.models.get_model
    skip = SkipInit() if device == "meta" else nullcontext()
    with torch.random.fork_rng(devices=[]), torch.device(device), skip:
        torch.manual_seed(seed)
        try:
            return get_model(spec.name, weights=None, **options)
        except NotImplementedError:  # RegNet computes its widths with tensors, which the meta device cannot
            with torch.device("cpu"):
                return get_model(spec.name, weights=None, **options)
        except (ValueError, RuntimeError, AssertionError) as error:
            machine_limits.check(error)
            raise ParamsError(
                f"{spec.name} cannot be built for images of {spec.image_size} pixels: {error}",
                "change `ingest.image_size` (most networks take any size, transformers multiples of their patch)",
            ) from error


def _materialize(backbone: Backbone, seed: int) -> None:
    """Allocate the parameters that are left without the head, and draw their values."""
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
        drawn = _network(backbone.spec, seed, device="cpu")
        weights, buffers = drawn.state_dict(), dict(drawn.named_buffers())
        backbone.net.to_empty(device="cpu")
        backbone.net.load_state_dict({key: weights[key] for key in backbone.net.state_dict()})
        for name, buffer in backbone.net.named_buffers():
            buffer.copy_(buffers[name])


def _own_layers(head: nn.Module) -> list[nn.Module]:
    """Return the layers of a head before its last linear (or 1×1 convolution) layer."""
    layers = list(head.children()) or [head]
    last = max(i for i, layer in enumerate(layers) if isinstance(layer, (nn.Linear, nn.Conv2d)))
    return layers[:last]


def _neck_part(net: nn.Module, part: str) -> nn.Module:
    """Return a part between chain and head: the network's own module, or the function that it calls there."""
    functions = {"pool": GlobalPool(), "relu": nn.ReLU(), "flatten": nn.Flatten(1)}
    return getattr(net, part) if hasattr(net, part) and part != "relu" else functions[part]
