"""timm's networks as backbones, under timm's own parameter names (Wightman 2019).

Convolutional families and vision transformers are a chain of modules (`timm_layouts`), so that a network can be cut between any
two blocks. The others run whole, by timm's own `forward_features` and `forward_head`.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from darkroom.core import deadline, machine_limits
from darkroom.core.errors import ParamsError, WeightsError
from darkroom.core.os_errors import is_retryable
from darkroom.models.backbones import chains, hub_folders, torchvision_import  # noqa: F401  (timm imports torchvision)
from darkroom.models.backbones.timm_layouts import LAYOUTS, POSITIONS, Layout
from darkroom.models.backbones.weight_file import cache_folder
from darkroom.models.base import IMAGENET, SMALL_IMAGE, Backbone, Channels, GlobalPool, Step
from darkroom.models.init import SkipInit
from darkroom.models.specs import BackboneSpec

import timm  # isort: skip  # after torchvision_import, which spares it torch's compiler


class TimmBackbone(Backbone):
    """A network of timm without its last linear layer, with weights drawn from `seed`.

    The `pooled` embedding of a transformer is its class token, where it has one, beside the mean of the tokens of its patches,
    as DINOv2's linear classifiers take them (Oquab et al. 2023); of other chains the average of the last feature map; of a
    network that runs whole its own pooling. The `classifier` embedding is timm's `forward_head(…, pre_logits=True)`. Up to 64
    pixels the first convolution of a chain has stride 1.

    Raises ParamsError for an image size that the network cannot take.
    """

    def __init__(self, spec: BackboneSpec, seed: int = 0) -> None:
        super().__init__()
        self.spec = spec
        self.net: Any = _network(spec, seed)
        layout = LAYOUTS.get(type(self.net).__name__)
        self.sequential = layout is not None
        self.maps = layout.maps if layout else ""
        self._prefixes: tuple[str, ...] = _classifier(self.net)
        if layout:
            heads = [name for name, _ in self.net.named_children() if name not in layout.attributes]
            self._prefixes += tuple(heads)
            self._blocks = _blocks(self.net, layout)
            self._neck = self._pooled(layout, heads) if spec.head == "pooled" else [_OwnHead(self.net, heads), GlobalPool()]
            if spec.image_size <= SMALL_IMAGE and layout.maps == "first":
                chains.widen_stem(self.net)
        else:
            self._blocks, self._neck = chains.parts(self.net), []
        self.eval()
        try:
            with torch.inference_mode():
                self.dim = int(self(torch.zeros(1, 3, spec.image_size, spec.image_size)).shape[1])
        except (RuntimeError, AssertionError, ValueError, IndexError) as error:
            machine_limits.check(error)
            raise _size_error(spec, error) from error

    def _pooled(self, layout: Layout, heads: list[str]) -> list[nn.Module]:
        """Leave out the layers after the last feature map; return what makes an embedding of it."""
        for name in heads:
            setattr(self.net, name, nn.Identity())
        if layout.maps != "tokens":
            return [_Permute() if layout.maps == "last" else nn.Identity(), GlobalPool()]
        return [_TokenPool(int(getattr(self.net, "num_prefix_tokens", 0)), getattr(self.net, "cls_token", None) is not None)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.sequential:
            return super().forward(x)
        features = self.net.forward_head(self.net.forward_features(x), pre_logits=True)
        return features.mean((2, 3)) if features.ndim == 4 else features

    def has_feature_maps(self) -> bool:
        return self.maps == "first"

    def map_grid(self) -> Step | None:
        if self.maps == "last":
            return lambda x: x.permute(0, 3, 1, 2)
        if self.maps == "tokens":
            return self._tokens_to_maps
        return None

    def _tokens_to_maps(self, tokens: torch.Tensor) -> torch.Tensor:
        patches = tokens[:, int(getattr(self.net, "num_prefix_tokens", 0)) :]
        side = round(patches.shape[1] ** 0.5)
        return patches.unflatten(1, (side, side)).permute(0, 3, 1, 2)

    def is_head(self, key: str) -> bool:
        return key.startswith(tuple(f"{prefix}." for prefix in self._prefixes)) and key not in self.net.state_dict()

    def adapt(self, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return a state_dict as timm converts it for this network: tables of places are resized to the image size."""
        convert = getattr(sys.modules[type(self.net).__module__], "checkpoint_filter_fn", None)
        if convert is None:
            return state
        try:
            return dict(convert(dict(state), self.net))
        except (RuntimeError, KeyError, AttributeError, TypeError, ValueError, AssertionError):
            return state  # of another network: the differences are listed when it is loaded


class _Positions(nn.Module):
    """A transformer's own method that adds its tokens and the embedding of places; it holds the parameters of both."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self._net = [net]  # in a list: it is not a part of this module
        for name, parameter in net.named_parameters(recurse=False):
            self.register_parameter(name, parameter)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._net[0]._pos_embed(x)


class _OwnHead(nn.Module):
    """A network's own layers between its last feature map and its last linear layer."""

    def __init__(self, net: Any, names: list[str]) -> None:
        super().__init__()
        self._net = [net]
        self.layers = nn.ModuleList([getattr(net, name) for name in names])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._net[0].forward_head(x, pre_logits=True)


class _Permute(nn.Module):
    """(N, H, W, C) to (N, C, H, W)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.permute(0, 3, 1, 2)


class _TokenPool(nn.Module):
    """Tokens (N, T, C) to the class token, if there is one, and the mean of those after the first `prefix`: (N, C) or (N, 2C)."""

    def __init__(self, prefix: int, has_class_token: bool) -> None:
        super().__init__()
        self.prefix, self.has_class_token = prefix, has_class_token

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = x[:, self.prefix :].mean(1)
        return torch.cat([x[:, 0], mean], 1) if self.has_class_token else mean


def build(spec: BackboneSpec, seed: int) -> TimmBackbone:
    """Return the backbone of a description, with weights drawn from the seed."""
    return TimmBackbone(spec, seed)


def classifier(name: str, image_size: int, classes: int) -> nn.Module:
    """Return timm's whole network with a classifier; on the meta device if its class can be built there."""
    spec = BackboneSpec(name, image_size, source="timm")
    try:
        net = _network(spec, 0, classes, device="meta")
    except (NotImplementedError, RuntimeError):  # it computes with its tensors
        net = _network(spec, 0, classes)
    layout = LAYOUTS.get(type(net).__name__)
    if layout and layout.maps == "first" and image_size <= SMALL_IMAGE:
        chains.widen_stem(net)
    return net


def normalization(name: str) -> tuple[Channels, Channels]:
    """Return the mean and standard deviation per channel that a network's weights were trained with."""
    config = timm.models.get_pretrained_cfg(name)
    return (tuple(config.mean), tuple(config.std)) if config else IMAGENET  # type: ignore[return-value]


def describe_weights(name: str) -> dict[str, Any]:
    """Return what timm says of a network's weights: tag, licence, and how images were prepared for them."""
    config = timm.models.get_pretrained_cfg(name)
    if config is None:
        return {}
    keys = ("tag", "license", "input_size", "interpolation", "crop_pct", "fixed_input_size")
    return {key: getattr(config, key) for key in keys if getattr(config, key) not in (None, "")}


def download(name: str) -> tuple[Path, dict[str, Any]]:
    """Return the file of a network's weights, from the Hub's cache, the Hub, or the server that timm names, and where it comes
    from.

    Raises WeightsError where there are none, or where they cannot be fetched.
    """
    config = timm.models.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        raise WeightsError(f"timm has no weights for {name}", "set `weights.source` to pretrain, or name a folder of weight files")
    origin = f"hf-hub:{config.hf_hub_id}" if config.hf_hub_id else str(config.url)
    try:
        if config.hf_hub_id:
            names = (config.hf_hub_filename,) if config.hf_hub_filename else hub_folders.FILES
            file = hub_folders.download(config.hf_hub_id, names)
        else:
            file = cache_folder() / str(config.url).rsplit("/", 1)[-1]
            if not file.exists():
                file.parent.mkdir(parents=True, exist_ok=True)
                with deadline.no_silence():
                    torch.hub.download_url_to_file(str(config.url), str(file))
    except Exception as error:
        machine_limits.check(error)
        raise WeightsError(
            f"the weights of timm/{name} cannot be fetched from {origin}: {str(error).strip().splitlines()[0]}",
            f"place {name}.safetensors, a state_dict under timm's names, in a folder and name that: `darkroom recipe --weights "
            "FOLDER`; or set `weights.source` to pretrain",
            is_retryable(error),
        ) from error
    return file, {"timm": timm.__version__, "url": origin} | describe_weights(name)


def _network(spec: BackboneSpec, seed: int, classes: int = 0, device: str = "cpu") -> Any:
    """Build timm's network for images of `spec.image_size`; raises ParamsError where it cannot take them."""
    config = timm.models.get_pretrained_cfg(spec.name)
    options: dict[str, Any] = dict(spec.options)
    sized = {"img_size": spec.image_size} if config is not None and config.fixed_input_size else {}
    with torch.random.fork_rng(devices=[]), torch.device(device), SkipInit() if device == "meta" else nullcontext():
        torch.manual_seed(seed)
        try:
            try:
                net = timm.create_model(spec.name, pretrained=False, num_classes=classes, **sized | options)
            except TypeError:  # it has one size, and no option for it
                net = timm.create_model(spec.name, pretrained=False, num_classes=classes, **options)
        except (AssertionError, ValueError, ZeroDivisionError) as error:
            raise _size_error(spec, error) from error
    _check_patches(spec, net)
    return net


def _check_patches(spec: BackboneSpec, net: Any) -> None:
    """Raise ParamsError where patches do not fill the image: timm would leave a border out in silence."""
    projection = getattr(getattr(net, "patch_embed", None), "proj", None)
    if not isinstance(projection, nn.Conv2d) or projection.kernel_size != projection.stride:  # overlapping patches have a padding
        return
    side = projection.stride[0]
    if spec.image_size % side:
        below = max(side, spec.image_size - spec.image_size % side)
        sizes = f"{below} or {below + side}" if below < spec.image_size else str(below)
        raise ParamsError(
            f"timm/{spec.name} cuts images into patches of {side} pixels, which do not fill {spec.image_size} pixels",
            f"set `ingest.image_size` to {sizes}",
        )


def _size_error(spec: BackboneSpec, error: Exception) -> ParamsError:
    config = timm.models.get_pretrained_cfg(spec.name)
    size = config.input_size[-1] if config else 224
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return ParamsError(
        f"timm/{spec.name} cannot take images of {spec.image_size} pixels: {reason}",
        f"set `ingest.image_size` to {size}, for which it was made",
    )


def _classifier(net: Any) -> tuple[str, ...]:
    """Return the attributes of a network that hold its last linear layers."""
    names: Any = (getattr(net, "pretrained_cfg", None) or {}).get("classifier") or ()
    return tuple(name.partition(".")[0] for name in ((names,) if isinstance(names, str) else names))


def _blocks(net: Any, layout: Layout) -> list[list[nn.Module]]:
    """Return the chain as blocks: the stem, the units of the body, and the tail, in the last block where it only normalises."""
    stem: list[nn.Module] = [_Positions(net) if name == POSITIONS else getattr(net, name) for name in layout.stem]
    body = [unit for name in layout.body for unit in chains.units(getattr(net, name))]
    tail = [unit for name in layout.tail for unit in chains.units(getattr(net, name))]
    own = any(parameter.ndim > 1 for unit in tail for parameter in unit.parameters())
    result = [*([stem] if stem else []), *chains.blocks(body + (tail if own else []))]
    if not own:
        result[-1] += tail
    return result
