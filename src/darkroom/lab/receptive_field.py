"""Receptive fields of layers, theoretical and effective, from gradients (Luo et al. 2016).

The theory follows each tensor through the network as it runs. A convolution or pooling of kernel k, stride s
and dilation d widens the field by (k − 1)·d steps of the layer below and multiplies the step by s; where
branches meet, their union counts (Araujo et al. 2019). Operations on all positions at once (global pooling,
attention, flattening) see the whole image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isinf
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from darkroom.core.errors import ParamsError
from darkroom.lab import drawing, layers

THRESHOLD = 0.0455  # of the largest gradient: two standard deviations of a Gaussian (Luo et al. 2016)
SIDE = 200  # pixels of a picture, about
FRAME = (90, 220, 255)


@dataclass(frozen=True)
class Side:
    """The field along one side: unit i sees the pixels from `first + i·step` to `last + i·step`."""

    first: float = 0
    last: float = 0
    step: float = 1

    @property
    def size(self) -> float:
        return self.last - self.first + 1

    def extend(self, kernel: int, stride: int, padding: int, dilation: int) -> Side:
        """Return the field of a unit of the next layer."""
        if self == WHOLE:
            return WHOLE
        first = self.first - padding * self.step
        return Side(first, self.last + ((kernel - 1) * dilation - padding) * self.step, self.step * stride)


WHOLE = Side(-inf, inf, inf)
Field = tuple[Side, Side]  # down, across
REARRANGING = (
    "permute", "transpose", "t", "alias", "detach", "clone", "_to_copy", "contiguous", "slice", "split", "chunk", "cat", "stack",
)  # fmt: skip
MIXING = ("adaptive", "upsample", "mean", "sum", "bmm", "softmax", "roll")  # of positions
PER_POSITION = ("native_layer_norm", "gelu", "relu", "dropout", "add", "mul", "sub", "div")


def fields(network: nn.Module, size: int) -> dict[str, tuple[Field, tuple[int, ...]]]:
    """Return for each layer, in the order of use, the field of a unit and the shape of the output.

    `network` takes (1, size, size, 3) uint8; it is run once, on black. Windows of attention count as the
    whole image.
    """
    result: dict[str, tuple[Field, tuple[int, ...]]] = {}
    tracker = FieldTracker()

    def record_field(name: str, output: torch.Tensor) -> None:
        result.setdefault(name, (tracker.field(output) or (WHOLE, WHOLE), tuple(output.shape[1:])))

    with layers.hooked(layers.named_layers(network), network, record_field):
        image = torch.zeros(1, size, size, 3, dtype=torch.uint8)
        with torch.no_grad(), tracker:
            tracker.set_field(image, (Side(), Side()))
            network(image)
    return result


class FieldTracker(TorchDispatchMode):
    """Track the field of each tensor through all operations. Tensors are kept, so that ids are unique."""

    def __init__(self) -> None:
        super().__init__()
        self.fields: dict[int, tuple[torch.Tensor, Field]] = {}

    def field(self, tensor: Any) -> Field | None:
        return self.fields[id(tensor)][1] if isinstance(tensor, torch.Tensor) and id(tensor) in self.fields else None

    def set_field(self, tensor: torch.Tensor, field: Field) -> None:
        self.fields[id(tensor)] = (tensor, field)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        tensors = [item for arg in args for item in (arg if isinstance(arg, (list, tuple)) else [arg])]
        inputs = [(item, field) for item in tensors if (field := self.field(item)) is not None]
        if inputs:
            result = _output_field(func.overloadpacket.__name__, args, inputs, output)
            for item in output if isinstance(output, (list, tuple)) else [output]:
                if isinstance(item, torch.Tensor):
                    self.set_field(item, result)
        return output


def _output_field(name: str, args: Any, inputs: list[tuple[torch.Tensor, Field]], output: Any) -> Field:
    """Return the field of an operation's output from those of its inputs. Tensors are (N, C, H, W)."""
    first, field = inputs[0]
    result = output[0] if isinstance(output, (list, tuple)) else output
    if "convolution" in name:
        kernel, (stride, padding, dilation) = args[1].shape[2:], args[3:6]
        return _extend(field, kernel, stride, padding, dilation) if not args[6] else (WHOLE, WHOLE)
    if name.startswith(("max_pool2d", "avg_pool2d")):
        kernel, stride, padding, dilation = ((*args[1:], *(None,) * 4))[:4]
        return _extend(field, kernel, stride or kernel, padding or 0, dilation if name.startswith("max") and dilation else 1)
    if (
        name == "slice" and first.ndim == 4 and args[1] in (2, 3)
    ):  # every second position, as a shortcut without a convolution has it
        begin, _, step = ((*args[2:], *(None,) * 3))[:3]
        axis, start = args[1] - 2, (begin or 0) + (first.shape[args[1]] if (begin or 0) < 0 else 0)
        sides = list(field)
        sides[axis] = sides[axis].extend(1, step or 1, -start, 1)
        return sides[0], sides[1]
    if name in REARRANGING:
        return _union([field for _, field in inputs])
    if name in ("view", "_unsafe_view", "reshape"):
        # positions may be flattened as long as none becomes a channel, as in a linear layer on channels last
        is_same = first.shape[-1] == result.shape[-1] or first.shape[0] * first.shape[1] == result.shape[0] * result.shape[1]
        is_single = first.ndim == 4 and first.shape[2] == first.shape[3] == 1
        return field if is_same or is_single else (WHOLE, WHOLE)
    if name in ("addmm", "mm", "linear"):
        return field
    if result.ndim == first.ndim == 4 and not any(word in name for word in MIXING):
        shapes = [item.shape[2:] for item, _ in inputs]
        if all(shape in (result.shape[2:], (1, 1)) or 1 in shape for shape in shapes) and result.shape[2:] in shapes:
            return _union([field for _, field in inputs])
    if name in PER_POSITION and result.shape == first.shape:
        return _union([field for _, field in inputs])
    if "adaptive" in name and result.shape[2:] == first.shape[2:]:
        return field
    return WHOLE, WHOLE


def _extend(field: Field, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Field:
    down, across = zip(*map(_pair, (kernel, stride, padding, dilation)), strict=True)
    return field[0].extend(*down), field[1].extend(*across)


def _pair(value: Any) -> tuple[int, int]:
    values = list(value) if isinstance(value, Sequence) else [value]
    return int(values[0]), int(values[-1])


def _union(fields: list[Field]) -> Field:
    down, across = ([field[axis] for field in fields] for axis in (0, 1))
    return _union_of_sides(down), _union_of_sides(across)


def _union_of_sides(sides: list[Side]) -> Side:
    if any(side.step != sides[0].step or side == WHOLE for side in sides):
        return WHOLE
    return Side(min(side.first for side in sides), max(side.last for side in sides), sides[0].step)


def effective(network: nn.Module, layer: str, images: torch.Tensor) -> np.ndarray:
    """Return the influence of each pixel on the middle unit of a layer, (S, S) float32, at most 1.

    It is the absolute gradient of the unit's channels, each with a random sign, averaged over images (N, S,
    S, 3) and summed over colours (Luo et al. 2016). Raises ParamsError if the layer has no spatial positions.
    """
    module = layers.find_layer(network, layer)
    inputs = images.float().requires_grad_()
    with torch.enable_grad(), layers.recording(network, [layer]) as outputs:
        network(inputs)
    output = layers.to_maps(layers.output_of(network, outputs, layer), module)
    if output is None:
        raise ParamsError(f"the output of {layer} has no spatial positions", "name a convolution or a pooling")
    middle = output[:, :, output.shape[2] // 2, output.shape[3] // 2]
    signs = torch.randint(0, 2, middle.shape, generator=torch.Generator().manual_seed(0)) * 2.0 - 1
    (gradient,) = torch.autograd.grad((middle * signs).sum(), inputs)
    influence = gradient.abs().sum(3).mean(0)
    return (influence / (influence.max() or 1)).numpy()


def effective_size(influence: np.ndarray) -> float:
    """Return the side of a square with as many pixels as have more than THRESHOLD of the largest influence."""
    return float(np.sqrt((influence > THRESHOLD * influence.max()).sum())) if influence.max() > 0 else 0.0


def draw(influence: np.ndarray, side: Side, middle: int) -> np.ndarray:
    """Return the influence (S, S) as a picture, the theoretical field of the unit `middle` framed."""
    size = len(influence)
    scale = SIDE / size
    picture = cv2.resize(drawing.heat(np.sqrt(influence), 1.0), (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)
    first = 0 if isinf(side.first) else max(0, side.first + middle * side.step)
    last = size - 1 if isinf(side.last) else min(size - 1, side.last + middle * side.step)
    top, bottom = round(first * scale), round((last + 1) * scale) - 1
    return cv2.rectangle(np.ascontiguousarray(picture), (top, top), (bottom, bottom), FRAME, 1)


def noise(count: int, size: int) -> torch.Tensor:
    """Return random images (count, size, size, 3) uint8."""
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8))
