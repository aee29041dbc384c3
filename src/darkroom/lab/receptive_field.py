"""How much of the image a layer sees: in theory, from the kernels on the way there, and measured, from gradients (Luo et al. 2016).

The theory follows each tensor through the network as it runs: a convolution or pooling of kernel k, stride s and dilation d widens
the field by (k − 1)·d steps of the layer below and multiplies the step by s; where branches meet, their union counts
(Araujo et al. 2019). Whatever looks at all places at once (global pooling, attention, flattening) sees the whole image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from darkroom.core.errors import ParamsError
from darkroom.lab import layers

SHARE = 0.0455  # of the largest gradient, above which a pixel counts as seen: two standard deviations of a bell (Luo et al. 2016)


@dataclass(frozen=True)
class Side:
    """Along one side: the unit with index i sees the pixels from `first + i·step` to `last + i·step`, both included."""

    first: float = 0
    last: float = 0
    step: float = 1

    @property
    def size(self) -> float:
        return self.last - self.first + 1

    def under(self, kernel: int, stride: int, padding: int, dilation: int) -> Side:
        """Return what a unit of the next layer sees."""
        if self == WHOLE:
            return WHOLE
        first = self.first - padding * self.step
        return Side(first, self.last + ((kernel - 1) * dilation - padding) * self.step, self.step * stride)


_MOVING = (
    "permute", "transpose", "t", "alias", "detach", "clone", "_to_copy", "contiguous", "slice", "split", "chunk", "cat", "stack",
)  # fmt: skip
_MIXING = ("adaptive", "upsample", "mean", "sum", "bmm", "softmax", "roll")  # of places
WHOLE = Side(-inf, inf, inf)
Field = tuple[Side, Side]  # down, across


def fields(network: nn.Module, size: int) -> dict[str, tuple[Field, tuple[int, ...]]]:
    """Return for each layer, in the order of use, what one of its units sees, and the shape of its output without the batch.

    `network` takes (1, size, size, 3) uint8; it is run once, on black. Windows of attention count as the whole image.
    """
    found: dict[str, tuple[Field, tuple[int, ...]]] = {}
    follow = _Follow()

    def look(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if isinstance(output, torch.Tensor) and name not in found:
                found[name] = (follow.field(output) or (WHOLE, WHOLE), tuple(output.shape[1:]))

        return hook

    hooks = [module.register_forward_hook(look(name)) for name, module in layers.layers(network).items()]
    modes = [(module, module.training) for module in network.modules()]
    try:
        network.eval()
        image = torch.zeros(1, size, size, 3, dtype=torch.uint8)
        with torch.no_grad(), follow:
            follow.set(image, (Side(), Side()))
            network(image)
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes:
            module.training = mode
    return found


class _Follow(TorchDispatchMode):
    """Follows what each tensor sees through every operation. It keeps the tensors, so that none takes the place of another."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[int, tuple[torch.Tensor, Field]] = {}

    def field(self, tensor: Any) -> Field | None:
        return self.known[id(tensor)][1] if isinstance(tensor, torch.Tensor) and id(tensor) in self.known else None

    def set(self, tensor: torch.Tensor, field: Field) -> None:
        self.known[id(tensor)] = (tensor, field)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        tensors = [item for arg in args for item in (arg if isinstance(arg, (list, tuple)) else [arg])]
        seen = [(item, field) for item in tensors if (field := self.field(item)) is not None]
        if seen:
            made = _step(func.overloadpacket.__name__, args, seen, output)
            for item in output if isinstance(output, (list, tuple)) else [output]:
                if isinstance(item, torch.Tensor):
                    self.set(item, made)
        return output


def _step(name: str, args: Any, seen: list[tuple[torch.Tensor, Field]], output: Any) -> Field:
    """Return what the output of an operation sees, from what its inputs see."""
    given, field = seen[0]
    result = output[0] if isinstance(output, (list, tuple)) else output
    if "convolution" in name:
        kernel, (stride, padding, dilation) = args[1].shape[2:], args[3:6]
        return _under(field, kernel, stride, padding, dilation) if not args[6] else (WHOLE, WHOLE)
    if name.startswith(("max_pool2d", "avg_pool2d")):
        kernel, stride, padding, dilation = ((*args[1:], *(None,) * 4))[:4]
        return _under(field, kernel, stride or kernel, padding or 0, dilation if name.startswith("max") and dilation else 1)
    if name in _MOVING:
        return _union([field for _, field in seen])
    if name in ("view", "_unsafe_view", "reshape"):
        # places may be counted together as long as no place becomes a channel, as in a linear layer on channels last
        kept = given.shape[-1] == result.shape[-1] or given.shape[0] * given.shape[1] == result.shape[0] * result.shape[1]
        single = given.ndim == 4 and given.shape[2] == given.shape[3] == 1
        return field if kept or single else (WHOLE, WHOLE)
    if name in ("addmm", "mm", "linear"):
        return field
    if result.ndim == given.ndim == 4 and not any(word in name for word in _MIXING):
        shapes = [item.shape[2:] for item, _ in seen]
        if all(shape in (result.shape[2:], (1, 1)) or 1 in shape for shape in shapes) and result.shape[2:] in shapes:
            return _union([field for _, field in seen])
    if name in ("native_layer_norm", "gelu", "relu", "dropout", "add", "mul", "sub", "div") and result.shape == given.shape:
        return _union([field for _, field in seen])
    if "adaptive" in name and result.shape[2:] == given.shape[2:]:
        return field
    return WHOLE, WHOLE


def _under(field: Field, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Field:
    down, across = zip(*map(_two, (kernel, stride, padding, dilation)), strict=True)
    return field[0].under(*down), field[1].under(*across)


def _two(value: Any) -> tuple[int, int]:
    values = list(value) if isinstance(value, Sequence) else [value]
    return int(values[0]), int(values[-1])


def _union(fields: list[Field]) -> Field:
    down, across = ([field[axis] for field in fields] for axis in (0, 1))
    return _joined(down), _joined(across)


def _joined(sides: list[Side]) -> Side:
    if any(side.step != sides[0].step or side == WHOLE for side in sides):
        return WHOLE
    return Side(min(side.first for side in sides), max(side.last for side in sides), sides[0].step)


def effective(network: nn.Module, layer: str, images: torch.Tensor) -> np.ndarray:
    """Return how much each pixel moves the middle unit of a layer, (S, S) float32 from 0 to 1 at the most.

    The mean over images (N, S, S, 3) and the sum over colours of the size of the gradient of the unit's channels, each weighed by a
    random sign (Luo et al. 2016). Raises ParamsError where the layer has no places.
    """
    module = layers.find(network, layer)
    given = images.float().requires_grad_()
    with torch.enable_grad(), layers.watched(network, [layer]) as found:
        network(given)
    output = layers.maps(layers.output(network, found, layer), module)
    if output is None:
        raise ParamsError(f"the output of {layer} has no places", "name a convolution or a pooling")
    middle = output[:, :, output.shape[2] // 2, output.shape[3] // 2]
    signs = torch.randint(0, 2, middle.shape, generator=torch.Generator().manual_seed(0)) * 2.0 - 1
    (gradient,) = torch.autograd.grad((middle * signs).sum(), given)
    sizes = gradient.abs().sum(3).mean(0)
    return (sizes / (sizes.max() or 1)).numpy()


def across(gradients: np.ndarray) -> float:
    """Return the side of the square that has as many pixels as are seen with more than SHARE of the largest gradient."""
    return float(np.sqrt((gradients > SHARE * gradients.max()).sum())) if gradients.max() > 0 else 0.0
