"""Diagrams of networks as SVG, from top to bottom: boxes, branches side by side, skips as arcs, frames of blocks."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from darkroom.core.axes import short
from darkroom.lab.diagram_boxes import KINDS, Box
from darkroom.lab.diagram_sizes import (
    EDGE,
    FRAME_PAD,
    FRAME_TOP,
    GAP,
    LANE,
    LEAST_WIDTH,
    LINE,
    MARGIN,
    PAD,
    RADIUS,
    SMALL,
    TITLE,
    WIDE,
    Fit,
    box_height,
    box_width,
    branch_sizes,
    common_fit,
    edge_height,
    fork_height,
    frame_head,
    frame_title,
    lanes_of,
    size_of,
    size_of_parallel,
    size_of_series,
    text_width,
    texts_of,
    wrap,
)  # fmt: skip
from darkroom.lab.diagram_structure import Frame, Item, Parallel, Series, Tangle
from darkroom.lab.diagram_style import style_sheet
from darkroom.lab.network_graph import Shape

MARK = "<!-- darkroom diagram -->"
Point = tuple[float, float]


def render(series: Series, title: str, lines: Sequence[str]) -> str:
    """Return the SVG of a structure, with a title, lines of text below it, and a legend of the kinds of boxes."""
    return _Drawing().render(series, title, lines)


def format_shape(shape: Shape) -> str:
    """Return a shape without the batch, as channels × height × width."""
    return "×".join(map(str, shape))


class _Drawing:
    def __init__(self) -> None:
        self.parts: list[str] = []
        self.kinds: set[str] = set()
        self.has_skip = False
        self.depth = 0  # of the frames around what is drawn

    def render(self, series: Series, title: str, lines: Sequence[str]) -> str:
        size = size_of_series(series, WIDE)
        width = max(LEAST_WIDTH, round(size.width + 2 * MARGIN + 2))
        y: float = MARGIN + TITLE
        for text, style, font in [(title, "title", TITLE), *((line, "faint", SMALL) for line in lines)]:
            for line in wrap(text, font, width - 2 * MARGIN, bold=style == "title"):
                self._text(MARGIN, y, line, style)
                y += font + 5
        axis = (width - size.width) / 2 + size.left
        y += 2
        self._series(series, axis, y, WIDE)
        y = self._legend(y + size.height + 18, width)
        height = round(y + MARGIN)
        spoken = escape(f"Diagram of {title}. {' '.join(lines)}", quote=True)
        size_text = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        head = f'<svg xmlns="http://www.w3.org/2000/svg" class="diagram" {size_text} role="img" aria-label="{spoken}">'
        paper = f'<rect class="paper" width="{width}" height="{height}"/>'
        return "\n".join([head, MARK, f"<style>\n{style_sheet()}\n</style>", paper, *self.parts, "</svg>\n"])

    def _series(self, series: Series, axis: float, y: float, fit: Fit) -> float:
        """Draw a series from y on; return where it ends."""
        fit = common_fit(series, fit)
        before: Item | None = None
        for item in series.items:
            if before is not None:
                below = y + edge_height(before, item)
                self._arrow(axis, y, below, format_shape(output_of(before)), tip=not isinstance(item, Parallel))
                y = below
            y = self._item(item, axis, y, fit)
            before = item
        return y

    def _item(self, item: Item, axis: float, y: float, fit: Fit) -> float:
        if isinstance(item, Box):
            return self._box(item, axis, y, fit)
        if isinstance(item, Frame):
            return self._frame(item, axis, y, fit)
        if isinstance(item, Tangle):
            return self._tangle(item, axis, y)
        return self._parallel(item, axis, y, fit)

    def _box(self, box: Box, axis: float, y: float, fit: Fit, width: float = 0) -> float:
        self.kinds |= {box.kind} if box.inputs else set()
        number = KINDS.index(box.kind)
        hint = f"<title>{escape(_hint(box))}</title>"
        if box.sign:
            circle = f'<circle class="k{number}" cx="{axis:.1f}" cy="{y + RADIUS:.1f}" r="{RADIUS}"/>'
            sign = f'<text class="bold mid" x="{axis:.1f}" y="{y + RADIUS + 4.5:.1f}">{box.sign}</text>'
            self.parts.append(f"<g>{circle}{sign}{hint}</g>")
            return y + 2 * RADIUS
        texts, height = texts_of(box, fit), box_height(box, fit)
        width = width or box_width(box, fit)
        left = axis - width / 2
        body = f'<rect class="paper" x="{left:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="5"/>'
        body += f'<rect class="k{number}" x="{left:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="5"/>'
        for i, (text, style) in enumerate(texts):
            line = y + PAD / 2 + 10.5 + LINE * i
            body += f'<text class="{style} mid" x="{axis:.1f}" y="{line:.1f}">{escape(text)}</text>'
        self.parts.append(f"<g>{body}{hint}</g>")
        return y + height

    def _frame(self, frame: Frame, axis: float, y: float, fit: Fit) -> float:
        size, body = size_of(frame, fit), size_of_series(frame.body, fit)
        left, head = axis - size.left, frame_head(frame, body)
        place = f'x="{left:.1f}" y="{y:.1f}" width="{size.width:.1f}" height="{size.height:.1f}"'
        self.parts.append(f'<rect class="frame" {place} rx="8"/>')
        start = y + head
        is_fork = isinstance(frame.body.items[0], Parallel)
        self._line([(axis, y), (axis, start)], tip=not is_fork)
        for i, line in enumerate(frame_title(frame, body)):
            self._text(left + FRAME_PAD, y + 15 + 13 * i, line, "faint bold inside")
        if len(frame.names) > 1:
            self._text(left + size.width - FRAME_PAD, y + 15.5, f"× {len(frame.names)}", "bold end inside")
        self.depth += 1
        end = self._series(frame.body, axis, start, fit)
        self.depth -= 1
        self._line([(axis, end), (axis, end + FRAME_TOP)], tip=False)
        return end + FRAME_TOP

    def _parallel(self, item: Parallel, axis: float, y: float, fit: Fit) -> float:
        inner, sizes = branch_sizes(item, fit)
        size, skips = size_of_parallel(item, fit), len(item.branches) - len(sizes)
        top = y + fork_height(item)
        bottom = top + max(part.height for _, part in sizes) + EDGE
        places, x = [], axis - size.left
        for _, part in sizes:
            places.append(x + part.left if len(sizes) > 1 else axis)
            x += part.width + GAP
        self.parts.append(f'<circle class="tip" cx="{axis:.1f}" cy="{y:.1f}" r="2.6"/>')
        for place, (branch, _) in zip(places, sizes, strict=True):
            self._line([(axis, y), (place, y), (place, top)], tip=not isinstance(branch.items[0], Parallel))
            end = self._series(branch, place, top, inner)
            self._join(item, place, axis, end, bottom)
            self._label(place, max(end, bottom - EDGE) + EDGE / 2 - 2, format_shape(output_of(branch.items[-1])))
        is_circle = bool(item.merge and item.merge.sign)
        for number in range(skips):
            lane = axis + size.right - LANE * (skips - number - 0.6)
            goal = (axis + RADIUS, bottom + RADIUS) if is_circle else (axis + 30, bottom)
            self._skip([(axis, y), (lane, y), (lane, goal[1] - (0 if is_circle else 10))], goal)
        if item.merge is None:
            return bottom
        width = 0 if is_circle else max(box_width(item.merge, WIDE), 40 + 2 * max(abs(place - axis) for place in places))
        return self._box(item.merge, axis, bottom, WIDE, width)

    def _join(self, item: Parallel, place: float, axis: float, end: float, bottom: float) -> None:
        """Draw the line from the end of a branch to the merge: a circle, a bar, or the point where another one begins."""
        if item.merge is not None and item.merge.sign and place != axis:
            self._line([(place, end), (place, bottom + RADIUS), (axis + (RADIUS if place > axis else -RADIUS), bottom + RADIUS)])
        elif item.merge is None and place != axis:
            self._line([(place, end), (place, bottom - 8), (axis, bottom - 8), (axis, bottom)], tip=False)
        else:
            self._line([(place, end), (place, bottom)], tip=item.merge is not None)

    def _tangle(self, item: Tangle, axis: float, y: float) -> float:
        ends: list[Point] = []
        side = max(size_of(box, WIDE).left for box in item.boxes)
        before: Box | None = None
        for box in item.boxes:
            if before is not None:
                is_next = any(edge.source == before.number for edge in box.inputs)
                if is_next:
                    self._arrow(axis, y, y + EDGE, format_shape(before.output))
                y += EDGE
            top = y
            y = self._box(box, axis, y, WIDE)
            ends.append((top, y))
            before = box
        lanes = lanes_of(item.edges)
        for lane, edges in enumerate(lanes):
            x = axis + side + LANE * (lane + 0.6)
            for first, last in edges:
                start = ends[first][1] - 6
                self._skip([(axis + side, start), (x, start), (x, ends[last][0] + 6)], (axis + side, ends[last][0] + 6))
        return y

    def _arrow(self, x: float, top: float, bottom: float, label: str, tip: bool = True) -> None:
        self._line([(x, top), (x, bottom)], tip)
        self._label(x, (top + bottom) / 2 - 2, label)

    def _label(self, x: float, y: float, text: str) -> None:
        style = "inside" if self.depth else "halo"
        self.parts.append(f'<text class="faint mid {style}" x="{x:.1f}" y="{y + 3.5:.1f}">{text}</text>')

    def _line(self, points: Sequence[Point], tip: bool = True, style: str = "") -> None:
        """Draw a line through points with rounded corners, and an arrow's tip at its end."""
        points = [point for i, point in enumerate(points) if not i or point != points[i - 1]]
        (x1, y1), (x, y) = points[-2], points[-1]
        length = abs(x - x1) + abs(y - y1) or 1.0
        dx, dy = (x - x1) / length, (y - y1) / length
        shortened = [*points[:-1], (x - 5 * dx, y - 5 * dy)] if tip else points
        self.parts.append(f'<path class="flow{style}" d="{_rounded(shortened)}"/>')
        if tip:
            corners = [(x, y), (x - 7 * dx + 3.6 * dy, y - 7 * dy + 3.6 * dx), (x - 7 * dx - 3.6 * dy, y - 7 * dy - 3.6 * dx)]
            self.parts.append(f'<path class="tip{style}" d="M{" L".join(f"{a:.1f},{b:.1f}" for a, b in corners)}Z"/>')

    def _skip(self, points: Sequence[Point], goal: Point) -> None:
        self.has_skip = True
        self._line([*points, goal] if points[-1][1] == goal[1] else [*points, (goal[0], points[-1][1]), goal], style=" skip")

    def _text(self, x: float, y: float, text: str, style: str) -> None:
        self.parts.append(f'<text class="{style}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>')

    def _legend(self, y: float, width: float) -> float:
        x: float = MARGIN
        entries = [(kind, f"k{number}") for number, kind in enumerate(KINDS) if kind in self.kinds]
        for kind, style in [*entries, *([("skip connection", "")] * self.has_skip)]:
            wide = 20 + text_width(kind, SMALL) + 14
            if x + wide - 14 > width - MARGIN:
                x, y = MARGIN, y + 18
            if style:
                self.parts.append(f'<rect class="{style}" x="{x:.1f}" y="{y - 9:.1f}" width="14" height="11" rx="3"/>')
            else:
                self.parts.append(f'<path class="flow skip" d="M{x:.1f},{y - 3.5:.1f}h14"/>')
            self._text(x + 20, y, kind, "faint")
            x += wide
        return y + 6


def output_of(item: Item) -> Shape:
    """Return the shape of an item's output."""
    if isinstance(item, Box):
        return item.output
    if isinstance(item, Frame):
        return output_of(item.body.items[-1])
    if isinstance(item, Tangle):
        return item.boxes[-1].output
    return item.merge.output if item.merge else output_of(next(branch for branch in item.branches if branch.items).items[-1])


def _hint(box: Box) -> str:
    """Return what is shown when a pointer is on a box."""
    parameters, products = (sum(getattr(node, key) for node in box.nodes) for key in ("parameters", "multiply_adds"))
    field = box.nodes[-1].field[0].size
    sees = f"{field:.0f}×{field:.0f} pixels" if field < float("inf") else "the whole input"
    costs = [f"{parameters:,} parameters"] * bool(parameters) + [f"{short(products)} multiply-adds"] * bool(products)
    return ", ".join([" · ".join(node.name for node in box.nodes), f"output {format_shape(box.output)}", *costs, f"sees {sees}"])


def _span(places: Sequence[float], axis: float) -> float:
    return 2 * max(abs(place - axis) for place in places) + 40


def _rounded(points: Sequence[Point]) -> str:
    """Return the path through points, each corner an arc."""
    text = f"M{points[0][0]:.1f},{points[0][1]:.1f}"
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        radius = min(8.0, _distance(before, corner) / 2, _distance(corner, after) / 2)
        start, end = _toward(corner, before, radius), _toward(corner, after, radius)
        text += f" L{start[0]:.1f},{start[1]:.1f} Q{corner[0]:.1f},{corner[1]:.1f} {end[0]:.1f},{end[1]:.1f}"
    return text + f" L{points[-1][0]:.1f},{points[-1][1]:.1f}"


def _distance(first: Point, second: Point) -> float:
    return abs(first[0] - second[0]) + abs(first[1] - second[1])


def _toward(corner: Point, other: Point, distance: float) -> Point:
    length = _distance(corner, other) or 1.0
    return tuple(a + (b - a) * distance / length for a, b in zip(corner, other, strict=True))  # type: ignore[return-value]
