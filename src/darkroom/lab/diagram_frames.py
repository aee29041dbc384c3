"""The frames of a diagram: one around each block of a network, equal ones that follow each other folded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from darkroom.lab.diagram_boxes import Box, make_boxes
from darkroom.lab.diagram_structure import Frame, Item, Parallel, Series, boxes_of, parse
from darkroom.lab.network_graph import Graph

MAX_SHARE = 0.5  # of a network's boxes in a frame: more is the network itself
LEAST_SAVED = 3  # boxes that folding must save


def build(graph: Graph) -> Series:
    """Return the structure of a network, from its input, a box of the kind `other`, to its output."""
    boxes = make_boxes(graph)
    return _fold(_frame(parse(boxes), _blocks(boxes), depth=0))


def _blocks(boxes: Sequence[Box]) -> dict[str, nn.Module]:
    """Return the modules that have a frame: classes of their own, and chains of a few normalised convolutions."""
    inside: dict[str, list[Box]] = {}
    modules: dict[str, nn.Module] = {}
    for box in boxes:
        for name, module in box.nodes[0].scopes:
            inside.setdefault(name, []).append(box)
            modules[name] = module
    own = {
        name for name, module in modules.items()
        if name and not isinstance(module, (nn.Sequential, nn.ModuleList))
        and 2 <= len(inside[name]) <= MAX_SHARE * len(boxes)
    }  # fmt: skip
    chains = {
        name for name, module in modules.items()
        if type(module) is nn.Sequential and 2 <= len(inside[name]) <= min(4, MAX_SHARE * len(boxes))
        and any(isinstance(child, nn.Sequential) for child in module)
        and not any(name.startswith(f"{block}.") or block.startswith(f"{name}.") for block in own)
    }  # fmt: skip
    return {name: modules[name] for name in own | chains}


def _frame(series: Series, blocks: dict[str, nn.Module], depth: int) -> Series:
    """Put consecutive items of one block into a frame, and those of blocks within it into frames of their own."""
    items: list[Item] = []
    start = 0
    while start < len(series.items):
        name = _block_of(series.items[start], blocks, depth)
        end = start + 1
        while name and end < len(series.items) and _block_of(series.items[end], blocks, depth) == name:
            end += 1
        part = series.items[start:end]
        if name and sum(len(boxes_of(item)) for item in part) > 1:
            body = _frame(Series(part), blocks, _depth(part[0], name) + 1)
            items.append(Frame((name,), _label(blocks[name]), body))
        else:
            items += [_frame_branches(item, blocks, depth) for item in part]
        start = end
    return Series(tuple(items))


def _frame_branches(item: Item, blocks: dict[str, nn.Module], depth: int) -> Item:
    if not isinstance(item, Parallel):
        return item
    blocks = {name: module for name, module in blocks.items() if not isinstance(module, nn.Sequential)}  # a branch is a chain
    return replace(item, branches=tuple(_frame(branch, blocks, depth) for branch in item.branches))


def _label(module: nn.Module) -> str:
    return "" if isinstance(module, nn.Sequential) else type(module).__name__


def _block_of(item: Item, blocks: dict[str, nn.Module], depth: int) -> str:
    """Return the outermost block, from this depth on, that all boxes of an item are in."""
    scopes = [[name for name, _ in box.nodes[0].scopes] for box in boxes_of(item)]
    shared = [name for name in scopes[0][depth:] if all(name in other for other in scopes)]
    return next((name for name in shared if name in blocks), "")


def _depth(item: Item, name: str) -> int:
    return [other for other, _ in boxes_of(item)[0].nodes[0].scopes].index(name)


def _fold(series: Series) -> Series:
    """Fold frames that are equal and follow each other into one, if that saves boxes enough."""
    items: list[Item] = []
    for item in series.items:
        if isinstance(item, Frame):
            item = replace(item, body=_fold(item.body))
            last = items[-1] if items else None
            if isinstance(last, Frame) and last.signature == item.signature:
                items[-1] = replace(last, names=(*last.names, *item.names))
                continue
        items.append(item)
    result: list[Item] = []
    for item in items:
        if isinstance(item, Frame) and len(item.names) > 1 and (len(item.names) - 1) * len(item.body.boxes) < LEAST_SAVED:
            result += [replace(item, names=(name,)) for name in item.names]
        else:
            result.append(item)
    return Series(tuple(result))
