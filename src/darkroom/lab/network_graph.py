"""The graph of a network as it runs: its layers, the operations between them, and which output each one takes.

One image passes through the network. Hooks see the modules, and a mode of torch sees the functions that are
called between them: additions, concatenations, activations. Each tensor is followed to its users, so that a
skip connection is an edge of the graph because it was computed, whatever the code looks like. Functions that
only rearrange one tensor (views, permutations, halves) are no nodes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from darkroom.lab.theoretical_field import WHOLE, Field, FieldTracker, Side, pair
from darkroom.models import macs
from darkroom.models.hooks import observing

INPUT = "input"
ADD, MULTIPLY, CONCATENATE = "add", "multiply", "concatenate"
WHOLE_MODULES = (  # modules with others in them that are one layer to a reader
    "MultiheadAttention", "ShiftedWindowAttention", "ShiftedWindowAttentionV2", "RelativePositionalMultiHeadAttention",
)  # fmt: skip
ACTIVATIONS = {  # class of a module, or function, and its name
    "ReLU": "ReLU", "relu": "ReLU", "ReLU6": "ReLU6", "relu6": "ReLU6", "SiLU": "SiLU", "silu": "SiLU", "GELU": "GELU",
    "gelu": "GELU", "Hardswish": "hard swish", "hardswish": "hard swish", "Hardsigmoid": "hard sigmoid",
    "hardsigmoid": "hard sigmoid", "Sigmoid": "sigmoid", "sigmoid": "sigmoid", "Tanh": "tanh", "tanh": "tanh",
    "LeakyReLU": "leaky ReLU", "ELU": "ELU",
}  # fmt: skip
NORMALISATIONS = ("BatchNorm1d", "BatchNorm2d", "LayerNorm", "LayerNorm2d", "GroupNorm", "LocalResponseNorm")
FUNCTIONS = {  # of one tensor, that are nodes
    **{name: kind for name, kind in ACTIVATIONS.items() if name.islower()},
    "mean": "mean", "adaptive_avg_pool2d": "global average", "avg_pool2d": "AvgPool2d", "max_pool2d": "MaxPool2d",
    "flatten": "Flatten", "interpolate": "Upsample", "pad": "pad", "softmax": "softmax",
}  # fmt: skip
MERGES = {"add": ADD, "iadd": ADD, "radd": ADD, "mul": MULTIPLY, "imul": MULTIPLY, "rmul": MULTIPLY, "cat": CONCATENATE,
          "concat": CONCATENATE}  # fmt: skip
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Window:
    """The settings of a convolution or pooling, each (down, across)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1


@dataclass(frozen=True)
class Edge:
    """An input of a node: the number of the node that it comes from, and its shape without the batch."""

    source: int
    shape: Shape


@dataclass(frozen=True)
class Node:
    """A layer or an operation, in the order of execution; the first one is the network's input.

    `name` is the module's, or for a function that of the module around it and the kind; `scopes` are the
    modules around it with their names, the outermost first. `parameters` are counted at the first use.
    `field` is what a unit of the output sees of the input.
    """

    number: int
    name: str
    kind: str
    inputs: tuple[Edge, ...]
    output: Shape
    parameters: int = 0
    multiply_adds: int = 0
    window: Window | None = None
    scopes: tuple[tuple[str, nn.Module], ...] = ()
    field: Field = (WHOLE, WHOLE)
    module: nn.Module | None = None


@dataclass(frozen=True)
class Graph:
    """The nodes of a network, and parameters of its blocks that belong to none, by the block's name."""

    nodes: tuple[Node, ...]
    own_parameters: dict[str, tuple[str, int]]  # class of the block, number

    def users(self) -> dict[int, list[Node]]:
        """Return for each node those that take its output."""
        result: dict[int, list[Node]] = {node.number: [] for node in self.nodes}
        for node in self.nodes:
            for source in dict.fromkeys(edge.source for edge in node.inputs):
                result[source].append(node)
        return result


def trace(network: nn.Module, image: Shape) -> Graph:
    """Return the graph of a network for one input of this shape (C, H, W), by running it once.

    The network may be on the meta device, where nothing is computed.
    """
    device = next((parameter.device for parameter in network.parameters()), None)
    example = torch.zeros(1, *image, device=device)
    recorder = _Recorder(network)
    with recorder.hooked(), torch.no_grad(), recorder.tracker, recorder:
        recorder.begin(example)
        network(example)
    names = {module: name for name, module in network.named_modules()}
    own = {
        names[module]: (type(module).__name__, count)
        for module in network.modules()
        if module not in recorder.counted and (count := _owned(module))
    }
    return Graph(tuple(recorder.nodes), own)


class _Recorder(TorchFunctionMode):
    """Records nodes while a network runs. Tensors are kept, so that their ids are unique."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.tracker = network, FieldTracker()
        self.names = {module: name for name, module in network.named_modules()}
        self.nodes: list[Node] = []
        self.counted: set[nn.Module] = set()  # modules whose parameters belong to a node
        self._sources: dict[int, tuple[torch.Tensor, int]] = {}
        self._stack: list[nn.Module] = []
        self._layer: nn.Module | None = None  # the layer that runs; what it calls is a part of it
        self._inputs: tuple[Edge, ...] = ()
        self._multiply_adds = 0
        self._used: dict[str, int] = {}

    def begin(self, example: torch.Tensor) -> None:
        self.tracker.set_field(example, (Side(), Side()))
        self._add(INPUT, INPUT, (), example)

    @contextmanager
    def hooked(self) -> Iterator[None]:
        modules = list(self.network.modules())
        handles = [module.register_forward_pre_hook(self._enter, with_kwargs=True) for module in modules]
        try:
            with observing(self.network, modules, self._leave):
                yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._stack.append(module)
        if self._layer is None and (next(module.children(), None) is None or type(module).__name__ in WHOLE_MODULES):
            self._layer, self._inputs, self._multiply_adds = module, self._edges([*args, *kwargs.values()]), 0

    def _leave(self, module: nn.Module, args: Any, output: Any) -> None:
        result = output[0] if isinstance(output, tuple) else output
        if self._layer is not None and args:
            self._multiply_adds += macs.products(module, args[0], result)
        if module is self._layer:
            self._add_layer(module, args, result)
            self._layer = None
        self._stack.pop()

    def _add_layer(self, module: nn.Module, args: Any, output: torch.Tensor) -> None:
        kind = type(module).__name__
        is_unchanged = any(output is item for item in args) and not getattr(module, "inplace", False)
        if is_unchanged and not (kind.startswith("Dropout") and module.p):
            return  # an identity
        parameters = 0
        for inner in module.modules():
            if inner not in self.counted:
                self.counted.add(inner)
                parameters += _owned(inner)
        name = self.names[module]
        self._add(name, kind, self._inputs, output, parameters, self._multiply_adds, _window(module), module)

    def _add(
        self, name: str, kind: str, inputs: tuple[Edge, ...], output: torch.Tensor, parameters: int = 0, multiply_adds: int = 0,
        window: Window | None = None, module: nn.Module | None = None,
    ) -> None:  # fmt: skip
        self._used[name] = self._used.get(name, 0) + 1
        unique = name if self._used[name] == 1 else f"{name}#{self._used[name]}"
        around = [item for item in self._stack if item is not module]
        scopes = tuple((self.names[item], item) for item in around)
        field = self.tracker.field(output) or (WHOLE, WHOLE)
        shape = tuple(output.shape[1:])
        number = len(self.nodes)
        self.nodes.append(Node(number, unique, kind, inputs, shape, parameters, multiply_adds, window, scopes, field, module))
        self._sources[id(output)] = (output, number)

    def _edges(self, values: Any) -> tuple[Edge, ...]:
        tensors = [item for value in values for item in (value if isinstance(value, (list, tuple)) else [value])]
        numbered = [
            (item, self._sources[id(item)][1]) for item in tensors if isinstance(item, torch.Tensor) and id(item) in self._sources
        ]
        return tuple(dict.fromkeys(Edge(number, tuple(item.shape[1:])) for item, number in numbered))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        edges = () if self._layer is not None else self._edges([*args, *kwargs.values()])
        output = func(*args, **kwargs)
        if not edges:
            return output
        name = getattr(func, "__name__", "").strip("_")
        for item in output if isinstance(output, (list, tuple)) else [output]:
            if isinstance(item, torch.Tensor):
                self._add_function(name, edges, args, kwargs, item)
        return output

    def _add_function(self, name: str, edges: tuple[Edge, ...], args: Any, kwargs: Any, output: torch.Tensor) -> None:
        is_mean_of_one = name == "mean" and tuple(output.shape[1:]) == edges[0].shape
        if len(edges) == 1 and (name not in FUNCTIONS or is_mean_of_one):
            self._sources[id(output)] = (output, edges[0].source)
            return
        kind = MERGES.get(name, name) if len(edges) > 1 else FUNCTIONS[name]
        if kind == "mean":
            kind = "global average" if edges[0].shape[1:] and tuple(output.shape[1:2]) == edges[0].shape[:1] else "mean of channels"
        scope = self.names[self._stack[-1]] if self._stack else ""
        window = _pool_window(args, kwargs) if kind in ("AvgPool2d", "MaxPool2d") else None
        self._add(".".join(filter(None, (scope, kind))), kind, edges, output, window=window)


def _owned(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters(recurse=False))


def _window(module: Any) -> Window | None:
    """Return the settings of a convolution or pooling; None for other modules."""
    if not isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.MaxPool2d, nn.AvgPool2d)):
        return None
    stride = module.kernel_size if module.stride is None else module.stride
    dilation, groups = getattr(module, "dilation", 1), getattr(module, "groups", 1)
    return Window(pair(module.kernel_size), pair(stride), pair(module.padding), pair(dilation), groups)


def _pool_window(args: Any, kwargs: Any) -> Window:
    values = dict(zip(("kernel_size", "stride", "padding"), args[1:], strict=False)) | kwargs
    kernel = values["kernel_size"]
    return Window(pair(kernel), pair(values.get("stride") or kernel), pair(values.get("padding", 0)))
