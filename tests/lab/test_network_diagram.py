"""Diagrams: every layer and every edge of the executed graph is drawn, and nothing else."""

from __future__ import annotations

import re
from functools import cache
from xml.etree import ElementTree

import pytest
import torch
from torch import nn

from darkroom.core.errors import ParamsError
from darkroom.lab import diagram_frames, network_diagram, network_graph, network_table
from darkroom.lab.diagram_boxes import Box, make_boxes
from darkroom.lab.diagram_sizes import text_width
from darkroom.lab.diagram_structure import Frame, Parallel, Series, Tangle
from darkroom.models.architectures.inception import Inception
from darkroom.models.architectures.mobilenet import InvertedResidual
from darkroom.models.architectures.resnet import Basic

NETWORKS = {"lenet5": 32, "resnet20": 32, "inception_small": 32, "mobilenet_v2": 32, "torchvision/densenet121": 64}


class Crossed(nn.Module):
    """Branches that are no series and parallels: the second takes a half of the first."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.a(x)
        left, right = self.b(x), self.c(x)
        both = self.d(left + right)
        return torch.cat([both, left], 1)


@cache
def graph(name: str) -> network_graph.Graph:
    return network_table.graph(name, NETWORKS[name], 1 if name == "lenet5" else 3, 10, {})


def ends_at(box: Box, drawn: list[int]) -> set[tuple[int, int]]:
    """Return the edges to a box: those that are drawn, or all that it takes where it says so, after branches that cross."""
    is_told = any("outputs above" in line for line in box.details)
    return {(source, box.number) for source in ([edge.source for edge in box.inputs] if is_told else drawn)}


def edges_of(series: Series, source: int) -> tuple[set[tuple[int, int]], int]:
    """Return the edges that a series draws below a box, and the number of its last box."""
    edges: set[tuple[int, int]] = set()
    for item in series.items:
        if isinstance(item, Box):
            edges |= ends_at(item, [source])
            source = item.number
        elif isinstance(item, Frame):
            inner, source = edges_of(item.body, source)
            edges |= inner
        elif isinstance(item, Parallel):
            ends = []
            for branch in item.branches:
                inner, end = edges_of(branch, source)
                edges |= inner
                ends.append(end)
            assert item.merge is not None
            edges |= ends_at(item.merge, ends)
            source = item.merge.number
        else:
            assert isinstance(item, Tangle)
            edges |= {(edge.source, box.number) for box in item.boxes for edge in box.inputs}
            source = item.boxes[-1].number
    return edges, source


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if "dense" in n else n for n in NETWORKS])
def test_the_edges_are_those_of_the_run(name, monkeypatch):
    """Without folding, the lines of a diagram, or its words where branches cross, are exactly the connections of the executed
    graph."""
    monkeypatch.setattr(diagram_frames, "_fold", lambda series: series)
    boxes = make_boxes(graph(name))
    series = diagram_frames.build(graph(name))
    assert sorted(box.number for box in series.boxes) == [box.number for box in boxes]
    drawn, _ = edges_of(Series(series.items[1:]), 0)
    assert drawn == {(edge.source, box.number) for box in boxes for edge in box.inputs}


def test_crossing_branches_are_drawn_with_an_arc():
    """Branches that no series and parallels can tell become boxes one below the other, with arcs."""
    series = diagram_frames.build(network_graph.trace(Crossed(), (3, 8, 8)))
    assert {box.title for box in series.boxes} == {"input", "3×3 conv", "add", "concatenate"}
    svg = network_diagram.draw_block(Crossed(), (3, 8, 8), "crossed")
    assert 'class="flow skip"' in svg


def test_equal_blocks_are_folded():
    """Equal blocks that follow each other are one frame with their number, and stand for all of them."""
    frames = [item for item in diagram_frames.build(graph("resnet20")).items if isinstance(item, Frame)]
    assert [len(frame.names) for frame in frames] == [3, 1, 2, 1, 2]
    assert "× 3" in network_diagram.draw(graph("resnet20"), "resnet20")


@pytest.mark.parametrize(
    ("block", "fact"),
    [
        (Basic(16, 16, 1, True, True), "skip connection"),
        (InvertedResidual(16, 16, 1, 6), "3×3 depthwise, 96"),
        (Inception(192, (64, 96, 128, 16, 32, 32)), "concatenate"),
    ],
)
def test_one_block_is_drawn(block, fact):
    """A module alone is drawn for an input of its own; branches stand side by side."""
    svg = network_diagram.draw_block(block, (next(block.parameters()).shape[1], 8, 8), "block")
    assert fact in re.sub(r"<[^>]*>", "\n", svg)
    if fact == "concatenate":
        assert len({match.group(1) for match in re.finditer(r'<text class="bold mid" x="([\d.]+)"[^>]*>[13579]×', svg)}) == 4


@pytest.mark.parametrize("name", ["resnet20", "inception_small", "mobilenet_v2"])
def test_no_text_is_clipped(name):
    """Every text lies within the picture, also in a wide font, and the page of a phone shows its width."""
    root = ElementTree.fromstring(network_diagram.draw(graph(name), name))
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    assert width <= 420
    for text in root.iter("{http://www.w3.org/2000/svg}text"):
        style, x = text.attrib["class"], float(text.attrib["x"])
        wide = text_width(text.text or "", 15 if "title" in style else 10.5 if "faint" in style else 12, "faint" not in style)
        left = x - wide / 2 if "mid" in style else x - wide if "end" in style else x
        assert left >= 0, text.text
        assert left + wide <= width + 1, text.text
        assert 0 < float(text.attrib["y"]) < height
    assert "prefers-color-scheme: dark" in ElementTree.tostring(root, "unicode")


def test_only_earlier_diagrams_are_replaced(tmp_path):
    """A file of another origin stays, unless it is to be replaced; a name that is no SVG's is refused."""
    path = tmp_path / "a.svg"
    network_diagram.save(path, network_diagram.draw(graph("lenet5"), "lenet5"))
    network_diagram.check_writable(path)
    path.write_text("<svg/>")
    with pytest.raises(ParamsError, match="not an earlier diagram"):
        network_diagram.check_writable(path)
    network_diagram.check_writable(path, overwrite=True)
    with pytest.raises(ParamsError, match="SVG"):
        network_diagram.check_writable(tmp_path / "a.png")
