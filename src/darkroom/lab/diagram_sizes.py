"""How much room the parts of a diagram take, before they are drawn.

Texts are measured in a wide font, so that a narrower one of a browser's fits too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from darkroom.lab import drawing
from darkroom.lab.diagram_boxes import LINEAR, Box
from darkroom.lab.diagram_structure import Frame, Item, Parallel, Series, Tangle

TITLE, TEXT, SMALL = 15, 12, 10.5  # pixels of fonts
LINE = 14  # pixels from one line of a box to the next
PAD, GAP = 9, 10  # within a box, and between branches
EDGE, STEM, LANE = 30, 26, 22  # height of an edge with its shape, of a fork, and width of a skip's lane
RADIUS = 10  # of a merge, and of rounded corners
FRAME_PAD, FRAME_TOP = 8, 10
MARGIN, LEAST_WIDTH = 8, 360


@dataclass(frozen=True)
class Fit:
    """The least width of boxes, and whether their texts stand on short lines, as among many branches."""

    width: float
    is_narrow: bool = False


WIDE, BESIDE, NARROW = Fit(150), Fit(104), Fit(70, is_narrow=True)  # alone, of two branches, of more


@dataclass(frozen=True)
class Size:
    """What a part takes left and right of its line, and its height."""

    left: float
    right: float
    height: float

    @property
    def width(self) -> float:
        return self.left + self.right


def size_of(item: Item, fit: Fit) -> Size:
    if isinstance(item, Box):
        width = box_width(item, fit)
        return Size(width / 2, width / 2, box_height(item, fit))
    if isinstance(item, Frame):
        body = size_of_series(item.body, fit)
        title = max(text_width(line, SMALL, bold=True) for line in frame_title(item, body))
        needed = title + 2 * FRAME_PAD + (30 if len(item.names) > 1 else 0)
        missing = max(0.0, needed - body.width - 2 * FRAME_PAD) / 2
        side = FRAME_PAD + missing
        return Size(body.left + side, body.right + side, body.height + frame_head(item, body) + FRAME_TOP)
    if isinstance(item, Tangle):
        boxes = [size_of(box, WIDE) for box in item.boxes]
        side = max(box.left for box in boxes)
        return Size(side, side + LANE * (1 + len(lanes_of(item.edges))), sum(box.height + EDGE for box in boxes) - EDGE)
    return size_of_parallel(item, fit)


def size_of_series(series: Series, fit: Fit) -> Size:
    if not series.items:
        return Size(0, 0, 0)
    fit = common_fit(series, fit)
    sizes = [size_of(item, fit) for item in series.items]
    height = sum(size.height for size in sizes) + sum(edge_height(*pair) for pair in pairwise(series.items))
    return Size(max(size.left for size in sizes), max(size.right for size in sizes), height)


def edge_height(upper: Item, lower: Item) -> float:
    """Return the height of the line between two items."""
    return STEM if isinstance(lower, Parallel) else EDGE


def common_fit(series: Series, fit: Fit) -> Fit:
    """Return the width that the boxes of a series share."""
    boxes = [item for item in series.items if isinstance(item, Box) and not item.sign]
    return replace(fit, width=max([fit.width, *(box_width(box, fit) for box in boxes)]))


def branch_sizes(item: Parallel, fit: Fit) -> tuple[Fit, list[tuple[Series, Size]]]:
    full = [branch for branch in item.branches if branch.items]
    inner = fit if len(full) == 1 else BESIDE if len(full) == 2 and not fit.is_narrow else NARROW
    return inner, [(branch, size_of_series(branch, inner)) for branch in full]


def size_of_parallel(item: Parallel, fit: Fit) -> Size:
    _, sizes = branch_sizes(item, fit)
    skips = len(item.branches) - len(sizes)
    merge = _merge_height(item)
    height = fork_height(item) + max(size.height for _, size in sizes) + EDGE + merge
    if len(sizes) == 1:
        side = sizes[0][1]
        return Size(side.left, max(side.right, RADIUS) + LANE * skips, height)
    total = sum(size.width for _, size in sizes) + GAP * (len(sizes) - 1)
    if item.merge and item.merge.sign and len(sizes) == 2 and not skips:  # the second branch beside the first
        return Size(sizes[0][1].left, total - sizes[0][1].left, height)
    return Size(total / 2, total / 2 + LANE * skips, height)


def fork_height(item: Parallel) -> float:
    full = sum(bool(branch.items) for branch in item.branches)
    is_fork_below = any(branch.items and isinstance(branch.items[0], Parallel) for branch in item.branches)
    return (0 if is_fork_below else 14) if full == 1 else 22


def _merge_height(item: Parallel) -> float:
    if item.merge is None:
        return 0
    return 2 * RADIUS if item.merge.sign else box_height(item.merge, WIDE)


def texts_of(box: Box, fit: Fit) -> list[tuple[str, str]]:
    """Return the lines of a box with their styles."""
    channels = f"{box.subtitle} channels" if box.kind != LINEAR else box.subtitle
    if fit.is_narrow:
        details = [channels] * bool(box.subtitle) + list(box.details)
        return [(box.title, "bold"), *((line, "faint") for line in details)]
    title = ", ".join(filter(None, (box.title, box.subtitle)))
    return [(title, "bold"), *((line, "faint") for line in _group(box.details, 190))]


def box_width(box: Box, fit: Fit) -> float:
    if box.sign:
        return 2 * RADIUS
    widths = [text_width(text, TEXT if style == "bold" else SMALL, style == "bold") for text, style in texts_of(box, fit)]
    return max(fit.width, *(width + 2 * (6 if fit.is_narrow else PAD) for width in widths))


def box_height(box: Box, fit: Fit) -> float:
    return 2 * RADIUS if box.sign else LINE * len(texts_of(box, fit)) + PAD


def frame_title(frame: Frame, body: Size) -> list[str]:
    names = [name.rpartition("features.")[2].removeprefix("body.").removeprefix("net.") for name in frame.names]
    text = names[0] if len(names) == 1 else f"{names[0]} … {names[-1]}"
    label = " ".join(filter(None, (frame.label, text)))
    count = 30 if len(names) > 1 else 0  # pixels of the number of repeats in the corner
    return wrap(label, SMALL, max(body.width, 110) - count, bold=True)


def frame_head(frame: Frame, body: Size) -> float:
    return 13 * len(frame_title(frame, body)) + 12


def lanes_of(edges: Sequence[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Return edges by lane: those that overlap are in different ones, short ones inside."""
    lanes: list[list[tuple[int, int]]] = []
    for edge in sorted(edges, key=lambda edge: edge[1] - edge[0]):
        lane = next((lane for lane in lanes if all(edge[1] <= first or last <= edge[0] for first, last in lane)), None)
        if lane is None:
            lanes.append(lane := [])
        lane.append(edge)
    return lanes


def text_width(text: str, size: float, bold: bool = False) -> float:
    """Return the pixels of a text in a wide font of this size."""
    return drawing.text_width(text, "text", bold) * size / drawing.SIZES["text"]


def wrap(text: str, size: float, width: float, bold: bool = False) -> list[str]:
    """Return a text as lines of at most this width, unless a single word is wider."""
    return drawing.fill_lines(text.split(" "), " ", width, lambda line: text_width(line, size, bold))


def _group(details: Sequence[str], width: float) -> list[str]:
    """Return details, separated by commas, on lines of at most this width."""
    return drawing.fill_lines(details, ", ", width, lambda line: text_width(line, SMALL))
