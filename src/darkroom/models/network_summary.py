"""The layers of any network: kernels, activations, skips, output shapes, receptive fields, parameters, multiply-adds."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isinf
from typing import Any

import torch
from torch import nn

from darkroom.core.errors import ParamsError
from darkroom.models import factory, macs, network_graph
from darkroom.models.architectures import autoencoder, features, registry
from darkroom.models.backbones import torchvision
from darkroom.models.base import Network
from darkroom.models.macs import Layer
from darkroom.models.network_graph import ACTIVATIONS, INPUT, MERGES, Graph, Node

PREFIX = re.compile(r"^features\.((body|neck|net)\.)?")
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


def layers(name: str, image_size: int, channels: int, classes: int, options: Mapping[str, Any]) -> list[Layer]:
    """Return the layers of a whole classifier or autoencoder, names as in its own code.

    Raises ParamsError for options that it does not have, and for images that it cannot take.
    """
    network = _build(name, image_size, channels, classes, options)
    try:
        rows = macs.layers(network, (channels, image_size, image_size))
    except (RuntimeError, ValueError) as error:
        raise _too_small(name, image_size, error) from error
    return [replace(row, name=PREFIX.sub("", row.name)) for row in rows]


def graph(name: str, image_size: int, channels: int, classes: int, options: Mapping[str, Any]) -> Graph:
    """Return the graph of a whole classifier or autoencoder; errors as of `layers`."""
    network = _build(name, image_size, channels, classes, options)
    try:
        return network_graph.trace(network.to("meta"), (channels, image_size, image_size))
    except (RuntimeError, ValueError) as error:
        raise _too_small(name, image_size, error) from error


def graph_of_model(network: Network, image_size: int) -> Graph:
    """Return the graph of a trained model from its normalised input (3, S, S) on. It loses its weights."""
    parts = OrderedDict(features=network.features, head=network.head)
    return network_graph.trace(nn.Sequential(parts).to("meta"), (3, image_size, image_size))


def short_name(name: str) -> str:
    """Return the name of a layer as in the code of its architecture."""
    return PREFIX.sub("", name)


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


def is_merge(row: Row) -> bool:
    """Tell whether a row adds, multiplies or concatenates the outputs of others."""
    return row.kind in MERGES.values()


def _too_small(name: str, image_size: int, error: Exception) -> ParamsError:
    return ParamsError(f"{name} cannot take images of {image_size} pixels: {error}", "give it larger ones")


def _build(name: str, image_size: int, channels: int, classes: int, options: Mapping[str, Any]) -> nn.Module:
    """Build a network; on torch's meta device where its family can, which takes no memory."""
    entry = registry.entries().get(name)
    if name == factory.COMPACT:
        body = factory.build_features(factory.make_spec(name, image_size, channels, options))
        return nn.Sequential(OrderedDict(features=body, head=nn.Linear(body.dim, classes)))
    if entry is None:
        factory.make_spec(name, image_size, channels, options)  # raises ParamsError for what it does not have
        return torchvision.classifier(name.removeprefix(factory.TORCHVISION), image_size, classes)
    with torch.device("meta"):
        if entry.kind == registry.AUTOENCODER:
            return autoencoder.build(name, image_size, channels, None, options)
        return features.classifier(name, classes, channels, image_size, None, options)
