"""What the pages on bottleneck and scaling draw is what was trained for their findings."""

from __future__ import annotations

import re

from darkroom.course import lessons
from tests.conftest import ROOT


def drawing(name: str) -> str:
    """Return the texts of a drawing of docs/images/blocks."""
    svg = (ROOT / f"docs/images/blocks/{name}.svg").read_text(encoding="utf-8")
    return "\n".join(re.findall(r">([^<>]+)</", svg))


def page(name: str) -> str:
    return (ROOT / lessons.PAGES / f"{name}.md").read_text(encoding="utf-8")


def numbers(pattern: str, text: str) -> tuple[int, ...]:
    """Return the numbers of a pattern, with commas between thousands or without."""
    found = re.search(pattern, text, re.MULTILINE)
    assert found, pattern
    return tuple(int(number.replace(",", "")) for number in found.groups())


def test_the_blocks_of_the_page_on_bottleneck_are_trained():
    """Kernel, channels and pixels are those of the findings, and the drawn 1×1 convolutions leave a share of its table."""
    text = page("bottleneck")
    (pixels,), (width,) = numbers(r"images of MNIST, (\d+) pixels", text), numbers(r"with (\d+) channels an eighth is two", text)
    (kernel,) = numbers(r"before each (\d) × \d convolution \|", text)
    plain, reduced = drawing("residual-5x5"), drawing("residual-5x5-reduced")
    for texts in (plain, reduced):
        assert texts.count(f"\n{kernel}×{kernel} conv, {width}\n") == 2
        assert f"\n{width}×{pixels}×{pixels}\n" in texts
    assert re.findall(r"\n1×1 conv, (\d+)\n", reduced) == [str(width // 4)] * 2
    assert "1 × 1 to a quarter" in text


def test_the_networks_of_the_page_on_scaling_are_trained():
    """Blocks, channels, pixels and parameters are those of the rows of the page's table."""
    for label in ("base", "compound"):
        pattern = rf"^\| {label} \| (\d+), (\d+), (\d+) \| [^|]+ \| ([\d,]+) \|"
        blocks, width, pixels, parameters = numbers(pattern, page("scaling"))
        texts = drawing(f"scaling-{label}")
        assert f"{parameters:,} parameters" in texts
        assert f"\n1×{pixels}×{pixels}\n" in texts
        assert texts.count(f"\n3×3 conv, {width}\n") == 3  # the first one, and those of the first block
        assert ("× 2" in texts) == (blocks == 2)  # equal blocks that follow each other
