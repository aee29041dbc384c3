"""The table of docs/architectures.md: every classic architecture, with the figures that `darkroom models describe` gives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from darkroom.models import network_summary
from darkroom.models.architectures import registry
from docs.reference_markdown import table

PAGE = Path("docs/architectures.md")
HEADER = ("name", "paper", "images, classes", "parameters", "multiply-adds", "options and their defaults")


def render(text: str) -> str:
    """Return the page with a table of the architectures as they are now in place of the one that it has."""
    head = f"| {' | '.join(HEADER)} |\n"
    before, after = text.split(head)
    rest = after.split("\n\n", 1)[1]
    return f"{before}{chr(10).join(table(HEADER, _rows()))}\n\n{rest}"


def _rows() -> Iterator[tuple[str, ...]]:
    for name, entry in registry.entries().items():
        layers = network_summary.layers(name, entry.size, entry.channels, entry.classes, {})
        images = f"{entry.size} × {entry.size} × {entry.channels}"
        yield (
            f"`{name}`", entry.paper, images if entry.kind == registry.AUTOENCODER else f"{images}, {entry.classes}",
            f"{sum(layer.parameters for layer in layers):,}", _short(sum(layer.multiply_adds for layer in layers)),
            ", ".join(f"`{key}={value!r}`" for key, value in entry.options.items()),
        )  # fmt: skip


def _short(number: int) -> str:
    unit, size = next(((unit, size) for unit, size in (("G", 1e9), ("M", 1e6)) if number >= size), ("", 1))
    return f"{number / size:.2f} {unit}" if unit else f"{number:,}"
