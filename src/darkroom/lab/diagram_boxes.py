"""The boxes of a diagram: a layer with the normalisation, activation and dropout that follow it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from darkroom.lab.network_graph import ACTIVATIONS, ADD, CONCATENATE, INPUT, MULTIPLY, NORMALISATIONS, Edge, Graph, Node, Shape

CONVOLUTION, DEPTHWISE, LINEAR, POOLING = "convolution", "depthwise convolution", "linear layer", "pooling"
NORMALISATION, ACTIVATION, MERGE, OTHER = "normalisation", "activation", "merge of branches", "other"
KINDS = (CONVOLUTION, DEPTHWISE, LINEAR, POOLING, NORMALISATION, ACTIVATION, MERGE, OTHER)
NORM_NAMES = {"BatchNorm2d": "batch norm", "BatchNorm1d": "batch norm", "LayerNorm": "layer norm", "LayerNorm2d": "layer norm",
              "GroupNorm": "group norm", "LocalResponseNorm": "local response norm"}  # fmt: skip
SIGNS = {ADD: "+", MULTIPLY: "×"}


@dataclass(frozen=True)
class Box:
    """One box: its kind, a title, what else is in it, its inputs from other boxes, and its output's shape."""

    number: int
    kind: str
    title: str
    subtitle: str  # channels
    details: tuple[str, ...]
    sign: str  # of a merge that is drawn as a circle
    inputs: tuple[Edge, ...]
    output: Shape
    nodes: tuple[Node, ...]

    @property
    def signature(self) -> object:
        return self.kind, self.title, self.subtitle, self.details, tuple(edge.shape for edge in self.inputs), self.output


def make_boxes(graph: Graph) -> list[Box]:
    """Return the boxes in the order of execution, their inputs by the numbers of boxes."""
    users = graph.users()
    owner: dict[int, int] = {}  # of a node, the number of its box
    groups: list[list[Node]] = []
    for node in graph.nodes:
        source = node.inputs[0].source if node.inputs else -1
        if len(node.inputs) == 1 and len(users[source]) == 1 and _joins(groups[owner[source]], node):
            owner[node.number] = owner[source]
            groups[owner[source]].append(node)
        else:
            owner[node.number] = len(groups)
            groups.append([node])
    boxes = []
    for number, nodes in enumerate(groups):
        inputs = tuple(dict.fromkeys(Edge(owner[edge.source], edge.shape) for edge in nodes[0].inputs))
        boxes.append(_box(number, nodes, inputs))
    return boxes


def _joins(group: Sequence[Node], node: Node) -> bool:
    """Tell whether a node belongs into the box of the node before it."""
    first = group[0].kind
    if first in (INPUT, *SIGNS, CONCATENATE) or first in ACTIVATIONS:
        return False
    has_activation = any(item.kind in ACTIVATIONS for item in group)
    if node.kind in NORMALISATIONS:
        return ("Conv" in first or first == "Linear") and len(group) == 1
    return (node.kind in ACTIVATIONS and not has_activation) or node.kind.startswith("Dropout")


def _box(number: int, nodes: Sequence[Node], inputs: tuple[Edge, ...]) -> Box:
    first = nodes[0]
    kind, title, subtitle, details = _words(first)
    for node in nodes[1:]:
        probability = f" {share:g}" if (share := getattr(node.module, "p", 0)) else ""
        details.append(ACTIVATIONS.get(node.kind) or NORM_NAMES.get(node.kind) or f"dropout{probability}")
    return Box(number, kind, title, subtitle, tuple(details), SIGNS.get(first.kind, ""), inputs, nodes[-1].output, tuple(nodes))


def _words(node: Node) -> tuple[str, str, str, list[str]]:
    """Return kind, title, channels and details of a layer."""
    kind, window = node.kind, node.window
    size = "×".join(map(str, window.kernel)) if window else ""
    if window and "Conv" in kind:
        is_depthwise = window.groups > 1 and window.groups == node.inputs[0].shape[0]
        details = _strides(window.stride)
        if window.groups > 1 and not is_depthwise:
            details.append(f"{window.groups} groups")
        if window.dilation != (1, 1):
            details.append(f"dilation {window.dilation[0]}")
        if window.padding != tuple((side - 1) // 2 * step for side, step in zip(window.kernel, window.dilation, strict=True)):
            details.append(f"padding {window.padding[0]}" if any(window.padding) else "no padding")
        title = f"{size} {'transposed ' if 'Transpose' in kind else ''}{'depthwise' if is_depthwise else 'conv'}"
        return DEPTHWISE if is_depthwise else CONVOLUTION, title, str(node.output[0]), details
    if kind == "Linear":
        return LINEAR, "linear", str(node.output[-1]), []
    if window:
        stride = _strides(window.stride) or ["stride 1"]
        return POOLING, f"{size} {'max' if 'Max' in kind else 'average'} pool", "", stride
    if kind in ("GlobalPool", "AdaptiveAvgPool2d", "global average"):
        return POOLING, "global average" if set(node.output[1:]) <= {1} else "adaptive average", "", []
    if kind in NORM_NAMES:
        return NORMALISATION, NORM_NAMES[kind], "", []
    if kind in ACTIVATIONS:
        return ACTIVATION, ACTIVATIONS[kind], "", []
    if kind in (ADD, MULTIPLY, CONCATENATE):
        return MERGE, kind, "", []
    if kind.endswith(("Attention", "AttentionV2")):
        return OTHER, "attention", "", [f"{heads} heads"] if (heads := _heads(node.module)) else []
    return OTHER, re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind).lower(), "", []


def _heads(module: nn.Module | None) -> int:
    return next((int(value) for name in ("num_heads", "n_heads") if isinstance(value := getattr(module, name, None), int)), 0)


def _strides(stride: tuple[int, int]) -> list[str]:
    return [] if stride == (1, 1) else [f"stride {stride[0]}" if stride[0] == stride[1] else f"stride {stride[0]}×{stride[1]}"]
