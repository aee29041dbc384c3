"""The layers of any network by name, and their outputs for images.

A layer is a module under its own name, without the `features.` or `features.net.` of Darkroom's classifiers:
for torchvision's networks that is torchvision's name (`layer4.2.conv3`).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import nn

from darkroom.core.errors import ParamsError
from darkroom.models.hooks import observing

PREFIXES = ("features.net.", "features.")
KINDS = {
    "convolution": (nn.Conv2d,),
    "pooling": (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d),
    "normalisation": (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.LocalResponseNorm),
    "activation": (nn.ReLU, nn.ReLU6, nn.SiLU, nn.GELU, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.Tanh, nn.LeakyReLU, nn.ELU),
    "linear": (nn.Linear,),
}


def named_layers(network: nn.Module) -> dict[str, nn.Module]:
    """Return every module with a name, single layers and blocks, except the containers at the top."""
    layers = {}
    for name, module in network.named_modules():
        short = next((name.removeprefix(prefix) for prefix in PREFIXES if name.startswith(prefix)), name)
        if short and short not in ("normalize", "features", "net"):
            layers[short] = module
    return layers


def kind(module: nn.Module) -> str:
    """Return convolution, activation, pooling, normalisation, linear, block or other."""
    for name, kinds in KINDS.items():
        if isinstance(module, kinds):
            return name
    return "block" if next(module.children(), None) is not None else "other"


def find_layer(network: nn.Module, name: str) -> nn.Module:
    """Return a layer by its name; raises ParamsError with the nearest names and some of all."""
    layers = named_layers(network)
    if name in layers:
        return layers[name]
    close = difflib.get_close_matches(name, layers, n=3, cutoff=0.4)
    hint = f" (did you mean {' or '.join(close)}?)" if close else ""
    single = [name for name, module in layers.items() if kind(module) not in ("block", "other")]
    some = ", ".join(single if len(single) <= 12 else [*single[:6], "…", *single[-5:]])
    raise ParamsError(
        f'there is no layer "{name}"{hint}', f"name one of {some}; `darkroom lab layers MODEL` lists all {len(layers)}"
    )


def hooked(
    modules: Mapping[str, nn.Module], network: nn.Module, hook: Callable[[str, torch.Tensor], None]
) -> AbstractContextManager[None]:
    """Call `hook(name, output)` when modules output a tensor while the network runs, in evaluation mode."""
    names = {module: name for name, module in modules.items()}

    def observer(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: Any) -> None:
        if isinstance(output, torch.Tensor):
            hook(names[module], output)

    return observing(network, names, observer)


@contextmanager
def recording(network: nn.Module, names: Iterable[str] | None = None) -> Iterator[dict[str, torch.Tensor]]:
    """Yield a dictionary that receives the outputs of layers, all by default, with their gradients.

    A layer that is used again is there again, as `name#2`. Outputs are copies, since later layers may work in
    place.
    """
    outputs: dict[str, torch.Tensor] = {}

    def record_output(name: str, output: torch.Tensor) -> None:
        uses = 1 + sum(other.rpartition("#")[0] == name or other == name for other in outputs)
        outputs[name if uses == 1 else f"{name}#{uses}"] = output.clone()

    chosen = named_layers(network) if names is None else {name: find_layer(network, name) for name in names}
    with hooked(chosen, network, record_output):
        yield outputs


def record(network: nn.Module, images: torch.Tensor, names: Iterable[str] | None = None) -> dict[str, torch.Tensor]:
    """Return the outputs of layers for images (N, S, S, 3) uint8 in the order of use, without gradients."""
    with torch.inference_mode(), recording(network, names) as outputs:
        network(images)
    return outputs


def output_of(network: nn.Module, outputs: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    """Return a recorded output. Raises ParamsError, with the layers in it, for a container that never ran."""
    if name in outputs:
        return outputs[name]
    inside = [other for other in named_layers(network) if other.startswith(f"{name}.") and other.count(".") == name.count(".") + 1]
    remedy = f"name one of {', '.join(inside[-6:])}" if inside else "name another layer"
    raise ParamsError(f'the layer "{name}" has no output of its own', remedy)


def to_maps(output: torch.Tensor, module: nn.Module) -> torch.Tensor | None:
    """Return a layer's output as maps (N, C, H, W), or None if it has no spatial positions.

    Linear layers and layer normalisations have channels last, except ConvNeXt's LayerNorm2d. The tokens (N,
    T, C) of a transformer become a square, without a class token in front of them.
    """
    if output.ndim == 4:
        is_channels_last = isinstance(module, (nn.Linear, nn.LayerNorm)) and type(module).__name__ != "LayerNorm2d"
        return output.permute(0, 3, 1, 2) if is_channels_last else output
    if output.ndim == 3:
        for class_tokens in (0, 1):
            side = round((output.shape[1] - class_tokens) ** 0.5)
            if side > 1 and side * side == output.shape[1] - class_tokens:
                return output[:, class_tokens:].transpose(1, 2).reshape(len(output), -1, side, side)
    return None


def to_channels(output: torch.Tensor, module: nn.Module, name: str) -> torch.Tensor:
    """Return an output as (N, C) or (N, C, H, W); raises ParamsError if it has no channels."""
    channels = output if output.ndim == 2 else to_maps(output, module)
    if channels is None:
        raise ParamsError(f"the output of {name} has no channels", "name a convolution, an activation or the head")
    return channels


def most_varied(maps: torch.Tensor, count: int) -> list[int]:
    """Return the channels of maps (C, H, W) that vary most over the image, the most varied first."""
    deviation = maps.flatten(1).std(1, correction=0)
    return deviation.argsort(descending=True, stable=True)[:count].tolist()
