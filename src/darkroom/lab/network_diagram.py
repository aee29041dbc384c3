"""Diagrams of a network, or of one block, from the graph that running it gives."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from darkroom.core import atomic
from darkroom.core.axes import short
from darkroom.core.errors import ParamsError
from darkroom.lab import diagram_frames, diagram_svg, network_graph
from darkroom.lab.network_graph import Graph, Shape


def draw(graph: Graph, title: str, inputs: str = "") -> str:
    """Return the SVG of a network: a box for each layer, equal blocks that follow each other once, with their number."""
    nodes = graph.nodes
    parameters = sum(node.parameters for node in nodes) + sum(count for _, count in graph.own_parameters.values())
    products = sum(node.multiply_adds for node in nodes)
    costs = f"{parameters:,} parameters, {short(products)} multiply-adds"
    return diagram_svg.render(diagram_frames.build(graph), title, [", ".join(filter(None, (inputs, costs)))])


def draw_block(block: nn.Module, image: Shape, title: str) -> str:
    """Return the SVG of one module for an input (C, H, W), by running it once."""
    return draw(network_graph.trace(block, image), title)


def check_writable(path: Path, overwrite: bool = False) -> None:
    """Raise ParamsError if the name is not that of an SVG file, or another file would be replaced."""
    if path.suffix.lower() != ".svg":
        raise ParamsError(f"{path} is not the name of an SVG file", f"name it {path.with_suffix('.svg').name}")
    if path.is_dir():
        raise ParamsError(f"{path} is a folder", "name a file: --diagram FILE.svg")
    if path.is_file() and not overwrite and diagram_svg.MARK not in path.read_text(encoding="utf-8", errors="replace")[:4096]:
        raise ParamsError(f"{path} exists and is not an earlier diagram", "--overwrite, or another --diagram FILE.svg")


def save(path: Path, svg: str) -> None:
    """Write a diagram, whole or not at all."""
    with atomic.new_file(path) as partial:
        partial.write_text(svg, encoding="utf-8")
