"""The table of a network: kernels, activations, skips, output shapes, receptive fields, parameters, multiply-adds."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from math import isinf
from typing import Any

from torch import nn

from darkroom.core.errors import ParamsError
from darkroom.lab import network_graph
from darkroom.lab.network_graph import ACTIVATIONS, INPUT, Graph, Node
from darkroom.models import network_summary
from darkroom.models.base import Network

Pair = tuple[int, int]


@dataclass(frozen=True)
class Row:
    """A layer or a merge of branches: one line of a network's description.

    `kernel`, `stride` and `padding` are (down, across). `activation` is applied to its output. `inputs` are
    the layers whose outputs it takes; an addition or a concatenation has several. `receptive_field` is the
    pixels down that a unit sees, None if it sees the whole image. Shapes are without the batch.
    """

    name: str
    kind: str
    kernel: Pair | None
    stride: Pair | None
    padding: Pair | None
    groups: int | None
    activation: str
    inputs: tuple[str, ...]
    output: tuple[int, ...]
    receptive_field: int | None
    parameters: int
    multiply_adds: int


def graph(name: str, image_size: int, channels: int, classes: int, options: Mapping[str, Any]) -> Graph:
    """Return the graph of a whole classifier or autoencoder; errors as of `network_summary.layers`."""
    network = network_summary.build(name, image_size, channels, classes, options)
    try:
        return network_graph.trace(network.to("meta"), (channels, image_size, image_size))
    except (RuntimeError, ValueError) as error:
        raise ParamsError(f"{name} cannot take images of {image_size} pixels: {error}", "give it larger ones") from error


def graph_of_model(network: Network, image_size: int) -> Graph:
    """Return the graph of a trained model from its normalised input (3, S, S) on. It loses its weights."""
    parts = OrderedDict(features=network.features, head=network.head)
    return network_graph.trace(nn.Sequential(parts).to("meta"), (3, image_size, image_size))


def short_name(name: str) -> str:
    """Return the name of a layer as in the code of its architecture."""
    return network_summary.PREFIX.sub("", name)


def describe(graph: Graph) -> list[Row]:
    """Return the rows of a graph in the order of execution, then blocks with parameters of their own.

    A row is a layer with parameters, products or another shape than its input, or a merge. Activations belong
    to the row before them, unless another layer takes the output before the activation.
    """
    users = graph.users()
    owner: dict[int, int] = {}  # the row that a node belongs to
    shown: dict[int, Node] = {}
    activations: dict[int, str] = {}
    for node in graph.nodes:
        first = owner[node.inputs[0].source] if node.inputs else node.number
        is_alone = bool(node.inputs) and len(users[node.inputs[0].source]) == 1
        if node.kind in ACTIVATIONS and is_alone and first not in activations and first:
            activations[first] = ACTIVATIONS[node.kind]
            owner[node.number] = first
        elif node.kind != INPUT and not _is_row(node):
            owner[node.number] = first
        else:
            owner[node.number] = node.number
            shown[node.number] = node
    rows = [_row(node, [short_name(shown[owner[edge.source]].name) for edge in node.inputs], activations.get(node.number, ""))
            for node in shown.values() if node.kind != INPUT]  # fmt: skip
    for name, (kind, count) in graph.own_parameters.items():
        rows.append(Row(short_name(name), kind, None, None, None, None, "", (), (), None, count, 0))
    return rows


def _is_row(node: Node) -> bool:
    is_changed = node.inputs[0].shape != node.output
    return bool(node.parameters or node.multiply_adds or is_changed or len(node.inputs) > 1 or node.kind in ACTIVATIONS)


def _row(node: Node, inputs: list[str], activation: str) -> Row:
    window, field = node.window, node.field[0].size
    kernel, stride, padding = (window.kernel, window.stride, window.padding) if window else (None, None, None)
    groups = window.groups if window and "Conv" in node.kind else None
    return Row(
        short_name(node.name), node.kind, kernel, stride, padding, groups, activation, tuple(dict.fromkeys(inputs)), node.output,
        None if isinf(field) else int(field), node.parameters, node.multiply_adds,
    )  # fmt: skip
