"""One filter of a convolution step by step: its map, then normalisation, activation and pooling, as the network has them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from darkroom.core.errors import ParamsError
from darkroom.lab import drawing, layer_pictures, layers, network_graph
from darkroom.lab.network_graph import ACTIVATIONS, NORMALISATIONS
from darkroom.lab.networks import InspectedNetwork, to_tensor

SIDE = 160  # pixels of a map, about
POOLINGS = ("MaxPool2d", "AvgPool2d", "AdaptiveAvgPool2d", "GlobalPool", "global average", "Grid")
FUNCTIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {  # calls without a module
    "ReLU": nn.functional.relu, "ReLU6": nn.functional.relu6, "SiLU": nn.functional.silu, "GELU": nn.functional.gelu,
    "sigmoid": torch.sigmoid, "tanh": torch.tanh, "hard swish": nn.functional.hardswish,
    "hard sigmoid": nn.functional.hardsigmoid, "global average": lambda x: x.mean((2, 3)),
}  # fmt: skip


@dataclass(frozen=True)
class Step:
    """The whole output (C, H, W) after a layer, and the layer in words."""

    values: torch.Tensor
    description: str


def steps(inspected: InspectedNetwork, name: str, pixels: np.ndarray) -> list[Step]:
    """Return the outputs of a convolution and of the layers after it, for an image (S, S, 3) uint8.

    They are those that follow one another in the executed network: normalisation, activation and pooling, up
    to the next convolution, the next merge, or an output that several layers take.
    """
    module = layer_pictures.find_convolution(inspected.network, name)[1]
    graph = network_graph.trace(inspected.network, (inspected.size, inspected.size, 3))
    node = next((node for node in graph.nodes if node.module is module), None)
    if node is None:
        raise ParamsError(f'the layer "{name}" is not used', "name a convolution of `darkroom lab feature-maps MODEL IMAGE`")
    values = layers.record(inspected.network, to_tensor(pixels), [name])[name]
    result, users = [Step(values[0], f"convolution {name}")], graph.users()
    with torch.inference_mode():
        while len(users[node.number]) == 1:
            (node,) = users[node.number]
            kind = ACTIVATIONS.get(node.kind, node.kind)
            is_step = node.kind in ACTIVATIONS or node.kind in (*NORMALISATIONS, *POOLINGS) or node.kind.startswith("Dropout")
            function = node.module.eval() if node.module is not None else FUNCTIONS.get(kind)
            if not is_step or function is None or len(node.inputs) > 1:
                break
            values = function(values.clone())  # an activation may work in place
            if not node.kind.startswith("Dropout"):
                result.append(Step(values[0], _describe(node)))
            if node.kind in POOLINGS:
                break
    return result


def _describe(node: network_graph.Node) -> str:
    if node.window and "Pool" in node.kind:
        kind = "max" if "Max" in node.kind else "average"
        return f"{node.window.kernel[0]}×{node.window.kernel[1]} {kind} pooling, stride {node.window.stride[0]}"
    names = {"BatchNorm2d": "batch normalisation", "GlobalPool": "global average", "Grid": "adaptive average pooling",
             "AdaptiveAvgPool2d": "adaptive average pooling"}  # fmt: skip
    return names.get(node.kind) or ACTIVATIONS.get(node.kind, node.kind)


def draw(inspected: InspectedNetwork, name: str, number: int, pixels: np.ndarray, caption: str) -> drawing.Sheet:
    """Return a sheet of the input, the filter and its maps after each layer; raises ParamsError for another number."""
    module = layer_pictures.find_convolution(inspected.network, name)[1]
    weights = layer_pictures.weights_of(module)
    if not 0 <= number < len(weights):
        raise ParamsError(f"{name} has no filter {number}", f"--filter may be 0 to {len(weights) - 1}")
    tiles = [drawing.Tile(drawing.fit(pixels, SIDE), f"{caption}\nthe input, 3×{inspected.size}×{inspected.size}")]
    tiles.append(_filter(weights[number], number))
    outputs = steps(inspected, name, pixels)
    for step in outputs:
        values = step.values[number].float().numpy()
        shape = "×".join(map(str, step.values.shape))
        span = f"{drawing.format_number(values.min())} … {drawing.format_number(values.max())}"
        picture = values if values.ndim == 2 else np.full((1, 1), values)
        most = float(abs(picture).max()) or 1.0
        shaded = drawing.signed(picture, most) if picture.min() < 0 else drawing.heat(picture, most)
        tiles.append(drawing.Tile(drawing.fit(shaded, SIDE), f"{step.description}\none of {shape}\n{span}"))
    note = "Negative values make a map mid-grey at zero, brighter positive, darker negative; else it is from black to yellow."
    if not outputs[-1].description.endswith(("pooling", "average")) and " pooling, " not in outputs[-1].description:
        note += " In this network no pooling follows before the next convolution or merge."
    return drawing.Sheet(f"Filter {number} of {name} of {inspected.description}", [drawing.Row(tiles)], note)


def _filter(weights: np.ndarray, number: int) -> drawing.Tile:
    """Return a filter (inputs, h, w): in colour for three channels, else its channels in a mosaic."""
    inputs, height, width = weights.shape
    text = f"the filter {number}\n{inputs}×{height}×{width} weights"
    if inputs == 3:
        return drawing.Tile(drawing.fit(layer_pictures.colours(weights[None])[0], SIDE // 2), f"{text}, as a colour")
    columns = int(np.ceil(np.sqrt(inputs)))
    padded = np.zeros((columns * -(-inputs // columns), height, width), weights.dtype)
    padded[:inputs] = weights
    grid = layer_pictures.shades(padded).reshape(-1, columns, height, width)
    return drawing.Tile(layer_pictures.mosaic(grid, max(1, SIDE // (columns * (width + 1)))), text)
