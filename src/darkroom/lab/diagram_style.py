"""The style sheet of diagrams: the colours of the kinds of boxes, light and dark."""

from __future__ import annotations

from collections.abc import Sequence

from darkroom.core.charts import PALETTE, PALETTE_DARK
from darkroom.lab.diagram_boxes import (
    ACTIVATION,
    CONVOLUTION,
    DEPTHWISE,
    KINDS,
    LINEAR,
    MERGE,
    NORMALISATION,
    OTHER,
    POOLING,
)  # fmt: skip

COLOURS = {  # numbers in the palette of all pages
    CONVOLUTION: 1, DEPTHWISE: 5, LINEAR: 3, POOLING: 4, NORMALISATION: 8, ACTIVATION: 0, MERGE: 2, OTHER: 9,
}  # fmt: skip
STYLE = """
.diagram { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; color-scheme: light dark; }
.diagram .paper { fill: #fdfdfb; } .diagram text { fill: #1c1c1e; } .diagram .faint { fill: #5f5f65; font-size: 10.5px; }
.diagram .title { font-size: 15px; font-weight: 700; } .diagram .bold { font-weight: 600; } .diagram .mid { text-anchor: middle; }
.diagram .end { text-anchor: end; }
.diagram .halo { paint-order: stroke; stroke: #fdfdfb; stroke-width: 5px; stroke-linejoin: round; }
.diagram .inside { paint-order: stroke; stroke: #f4f3ee; stroke-width: 5px; stroke-linejoin: round; }
.diagram .flow { fill: none; stroke: #5f5f65; stroke-width: 1.4; } .diagram .tip { fill: #5f5f65; }
.diagram .skip { stroke-width: 2; stroke: %s; } .diagram .tip.skip { fill: %s; stroke: none; }
.diagram .frame { fill: #f4f3ee; stroke: #b9b9b2; stroke-width: 1; }
""".strip()
STYLE_DARK = """
.diagram .paper { fill: #17171a; } .diagram text { fill: #ececea; } .diagram .faint { fill: #a8a8ae; }
.diagram .halo { stroke: #17171a; } .diagram .inside { stroke: #212125; }
.diagram .flow { stroke: #a8a8ae; } .diagram .tip { fill: #a8a8ae; }
.diagram .skip { stroke: %s; } .diagram .tip.skip { fill: %s; }
.diagram .frame { fill: #212125; stroke: #5a5a60; }
""".strip()


def style_sheet() -> str:
    """Return the style sheet, with a dark part; each kind of box has a class with its number."""
    light, dark = PALETTE[COLOURS[MERGE]], PALETTE_DARK[COLOURS[MERGE]]
    dark_rules = f"{STYLE_DARK % (dark, dark)}\n{_kinds(PALETTE_DARK, 0.22)}"
    return f"{STYLE % (light, light)}\n{_kinds(PALETTE, 0.14)}\n@media (prefers-color-scheme: dark) {{\n{dark_rules}\n}}"


def _kinds(palette: Sequence[str], opacity: float) -> str:
    return "\n".join(
        f".diagram .k{number} {{ fill: {colour}; fill-opacity: {opacity}; stroke: {colour}; stroke-width: 1.3; }}"
        for number, colour in enumerate(palette[COLOURS[kind]] for kind in KINDS)
    )
