"""The layers of any network by name, and what each of them makes of images.

A layer is a module, under its own name without the `features.` or `features.net.` that Darkroom puts before it: for torchvision's
networks that is torchvision's name (`layer4.2.conv3`).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from darkroom.core.errors import ParamsError

_BEFORE = ("features.net.", "features.")
_KINDS = {
    "convolution": (nn.Conv2d,),
    "pooling": (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d),
    "normalisation": (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.LocalResponseNorm),
    "activation": (nn.ReLU, nn.ReLU6, nn.SiLU, nn.GELU, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.Tanh, nn.LeakyReLU, nn.ELU),
    "linear": (nn.Linear,),
}


def layers(network: nn.Module) -> dict[str, nn.Module]:
    """Return every module that has a name, single layers and blocks of them, but for the containers at the top."""
    found = {}
    for name, module in network.named_modules():
        short = next((name.removeprefix(before) for before in _BEFORE if name.startswith(before)), name)
        if short and short not in ("normalize", "features", "net"):
            found[short] = module
    return found


def kind(module: nn.Module) -> str:
    """Return what a module is in one word: convolution, activation, pooling, normalisation, linear, block, or other."""
    for name, kinds in _KINDS.items():
        if isinstance(module, kinds):
            return name
    return "block" if next(module.children(), None) is not None else "other"


def find(network: nn.Module, wanted: str) -> nn.Module:
    """Return a layer by its name; raises ParamsError that names the nearest ones and some of all."""
    known = layers(network)
    if wanted in known:
        return known[wanted]
    close = difflib.get_close_matches(wanted, known, n=3, cutoff=0.4)
    meant = f" (did you mean {' or '.join(close)}?)" if close else ""
    single = [name for name, module in known.items() if kind(module) not in ("block", "other")]
    some = ", ".join(single if len(single) <= 12 else [*single[:6], "…", *single[-5:]])
    raise ParamsError(
        f'there is no layer "{wanted}"{meant}', f"name one of {some}; `darkroom lab layers MODEL` lists all {len(known)}"
    )


def record(network: nn.Module, images: torch.Tensor, wanted: Iterable[str] | None = None) -> dict[str, torch.Tensor]:
    """Return what layers make of images (N, S, S, 3) uint8, in the order of their use, without gradients.

    By default all of them. A layer that is used again is there again, as `name#2`. The network is left as it was, and each output
    as it was when the layer gave it, whatever works in place on it later. Layers that give anything but one tensor are left out.
    """
    with torch.inference_mode(), watched(network, wanted) as found:
        network(images)
    return found


def output(network: nn.Module, found: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    """Return what a layer gave; raises ParamsError that names what is in it where it is a container that is opened, never run."""
    if name in found:
        return found[name]
    inside = [other for other in layers(network) if other.startswith(f"{name}.") and other.count(".") == name.count(".") + 1]
    remedy = f"name one of {', '.join(inside[-6:])}" if inside else "name another layer"
    raise ParamsError(f'the layer "{name}" gives no output of its own', remedy)


@contextmanager
def watched(network: nn.Module, wanted: Iterable[str] | None = None) -> Any:
    """Yield a dictionary that fills with what layers give while the network runs in evaluation mode; gradients flow through it."""
    found: dict[str, torch.Tensor] = {}
    chosen = layers(network) if wanted is None else {name: find(network, name) for name in wanted}

    def look(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if isinstance(output, torch.Tensor):
                times = 1 + sum(known.rpartition("#")[0] == name or known == name for known in found)
                found[name if times == 1 else f"{name}#{times}"] = output.clone()

        return hook

    hooks = [module.register_forward_hook(look(name)) for name, module in chosen.items()]
    modes = [(module, module.training) for module in network.modules()]
    try:
        network.eval()
        yield found
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes:
            module.training = mode


def maps(output: torch.Tensor, module: nn.Module) -> torch.Tensor | None:
    """Return a layer's output as maps (N, C, H, W), or None where it has no places.

    Linear layers and layer normalisations keep channels last; of a transformer's tokens (N, T, C) those of the image become a
    square, a class token in front of them is left out.
    """
    if output.ndim == 4:
        last = isinstance(module, (nn.Linear, nn.LayerNorm)) and type(module) is not _norm2d()
        return output.permute(0, 3, 1, 2) if last else output
    if output.ndim == 3:
        for classes in (0, 1):
            side = round((output.shape[1] - classes) ** 0.5)
            if side > 1 and side * side == output.shape[1] - classes:
                return output[:, classes:].transpose(1, 2).reshape(len(output), -1, side, side)
    return None


def _norm2d() -> type:
    """Return torchvision's layer normalisation that keeps channels first."""
    from darkroom.models import lean

    return lean.torchvision().models.convnext.LayerNorm2d


def strongest(values: torch.Tensor, count: int) -> list[int]:
    """Return the channels of maps (C, H, W) that vary most over the image, the strongest first."""
    spread = values.flatten(1).std(1, correction=0)
    return spread.argsort(descending=True, stable=True)[:count].tolist()
