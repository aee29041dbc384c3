"""A page of shapes and texts as SVG, in the style of the diagrams of networks: light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from darkroom.lab.diagram_boxes import KINDS
from darkroom.lab.diagram_sizes import SMALL, wrap
from darkroom.lab.diagram_style import style_sheet
from darkroom.lab.diagram_svg import MARK

WIDTH, MARGIN = 560, 12


class Sheet:
    """Shapes and texts on a page; `y` is where the next part begins."""

    def __init__(self, title: str, *lines: str) -> None:
        self.title, self.parts, self.y = title, [], float(MARGIN + 14)
        self.text(MARGIN, self.y, title, "title")
        for line in (part for text in lines for part in wrap(text, SMALL, WIDTH - 2 * MARGIN)):
            self.y += 16
            self.text(MARGIN, self.y, line, "faint")
        self.y += 16

    def text(self, x: float, y: float, text: str, style: str = "faint") -> None:
        self.parts.append(f'<text class="{style}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>')

    def box(self, x: float, y: float, width: float, height: float, style: str = "frame", opacity: float | None = None) -> None:
        """Draw a rectangle; `style` is `frame` or a kind of box."""
        name = f"k{KINDS.index(style)}" if style in KINDS else style
        more = f' style="fill-opacity:{opacity:.2f}"' if opacity is not None else ""
        self.parts.append(f'<rect class="{name}"{more} x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>')

    def line(self, points: Sequence[tuple[float, float]], kind: str = "") -> None:
        name = f"k{KINDS.index(kind)}" if kind else "flow"
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polyline class="{name}" style="fill:none" points="{path}"/>')

    def svg(self) -> str:
        height = round(self.y + MARGIN)
        size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
        label = escape(self.title, quote=True)
        head = f'<svg xmlns="http://www.w3.org/2000/svg" class="diagram" {size} role="img" aria-label="{label}">'
        paper = f'<rect class="paper" width="{WIDTH}" height="{height}"/>'
        return "\n".join([head, MARK, f"<style>\n{style_sheet()}\n</style>", paper, *self.parts, "</svg>\n"])
