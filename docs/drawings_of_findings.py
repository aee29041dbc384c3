"""Charts of findings, drawn from the tables of their pages: accuracies with their intervals, a row for each."""

from __future__ import annotations

import re
from pathlib import Path

from darkroom.core.axes import Scale
from darkroom.lab.diagram_boxes import CONVOLUTION, LINEAR, POOLING
from darkroom.lab.diagram_sizes import TEXT, text_width
from docs.drawing_sheet import MARGIN, WIDTH, Sheet

PAGES = Path("docs/case-studies")
ESTIMATE = re.compile(r"^(\d\.\d+) \((\d\.\d+) … (\d\.\d+)\)$")
COLOURS = (CONVOLUTION, POOLING, LINEAR)


def drawings() -> dict[str, str]:
    """Return the SVG of each chart, by its name."""
    return {
        "alpaca-findings": _chart("alpaca", "Accuracy on 65 held-out photographs"),
        "frozen-vgg-findings": _chart("frozen-vgg", "Test accuracy by images of each class"),
    }


def _chart(page: str, title: str) -> str:
    """Draw the first table below `Findings` with its intervals; columns have colours of their own."""
    lines = (PAGES / f"{page}.md").read_text(encoding="utf-8").partition("**Findings")[2].splitlines()
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    head, rows = table[0], table[2:]
    columns = [i for i in range(len(head)) if any(ESTIMATE.match(row[i]) for row in rows)]
    shown = [(row[0], [ESTIMATE.match(row[i]) for i in columns]) for row in rows if ESTIMATE.match(row[columns[0]])]
    estimates = [match.groups() for _, matches in shown for match in matches if match]
    scale = Scale(min(float(low) for _, low, _ in estimates), 1.0)
    sheet = Sheet(title, "Means or shares with 95% intervals, from the table below.")
    left = MARGIN + 16 + max(text_width(label, TEXT, bold=True) for label, _ in shown)
    width = WIDTH - left - 60
    for number, i in enumerate(columns if len(columns) > 1 else []):
        sheet.box(MARGIN, sheet.y - 2, 10, 10, COLOURS[number], 0.85)
        sheet.text(MARGIN + 16, sheet.y + 7, head[i])
        sheet.y += 16
    sheet.y += 6
    for label, matches in shown:
        sheet.text(MARGIN, sheet.y + 9 + 7 * (len(matches) - 1), label, "bold")
        for number, match in enumerate(matches):
            if match:
                value, low, high = (scale.position(float(text)) for text in match.groups())
                sheet.box(left + width * low, sheet.y + 3, width * (high - low), 5, COLOURS[number], 0.3)
                sheet.box(left + width * value - 4, sheet.y + 1, 8, 9, COLOURS[number], 0.85)
                sheet.text(WIDTH - 50, sheet.y + 9, match[1])
            sheet.y += 14
        sheet.y += 8
    for tick in scale.ticks(5):
        sheet.text(left + width * scale.position(tick), sheet.y + 12, f"{tick:.1f}", "faint mid")
    sheet.y += 14
    return sheet.svg()
