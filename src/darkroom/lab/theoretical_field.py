"""Theoretical receptive fields: what each tensor sees of a network's input, followed while it runs.

A convolution or pooling of kernel k, stride s and dilation d widens the field by (k − 1)·d steps of the layer
below and multiplies the step by s; where branches meet, their union counts (Araujo et al. 2019). Operations
on all positions at once (global pooling, attention, flattening) see the whole image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


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
    # every second position, as a shortcut without a convolution has it
    if name == "slice" and first.ndim == 4 and args[1] in (2, 3):
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
    if first.ndim == 4 and result.shape[2:] == first.shape[2:] and ("adaptive" in name or name in ("mean", "sum")):
        return field  # of channels, as where colours become grey
    return WHOLE, WHOLE


def _extend(field: Field, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Field:
    down, across = zip(*map(pair, (kernel, stride, padding, dilation)), strict=True)
    return field[0].extend(*down), field[1].extend(*across)


def pair(value: Any) -> tuple[int, int]:
    """Return a setting of both sides, or of one that holds for both, as (down, across)."""
    values = list(value) if isinstance(value, Sequence) else [value]
    return int(values[0]), int(values[-1])


def _union(fields: list[Field]) -> Field:
    down, across = ([field[axis] for field in fields] for axis in (0, 1))
    return _union_of_sides(down), _union_of_sides(across)


def _union_of_sides(sides: list[Side]) -> Side:
    if any(side.step != sides[0].step or side == WHOLE for side in sides):
        return WHOLE
    return Side(min(side.first for side in sides), max(side.last for side in sides), sides[0].step)
