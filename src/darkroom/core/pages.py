"""Self-contained HTML pages with one look: the layout that the pages of all rooms extend."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np


def render(room: str, template: str, **values: Any) -> str:
    """Return a room's template (`evaluation`, `report.html.j2`), which extends `core/layout.html.j2`, filled in."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader

    loaders = [PackageLoader("darkroom", room), PackageLoader("darkroom", "core")]
    environment = Environment(loader=ChoiceLoader(loaders), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template(template).render(**values)


def text(room: str, name: str) -> str:
    """Return a file of a room's templates as it is."""
    from importlib.resources import files

    return files("darkroom").joinpath(room, name).read_text(encoding="utf-8")


def picture(pixels: np.ndarray, most: int = 112) -> str:
    """Return an RGB image (H, W, 3) uint8 as a data URI, at most `most` pixels a side: JPEG, or PNG below 64 pixels."""
    import cv2

    longest = max(pixels.shape[:2])
    if longest > most:
        shape = (max(1, pixels.shape[1] * most // longest), max(1, pixels.shape[0] * most // longest))
        pixels = cv2.resize(pixels, shape, interpolation=cv2.INTER_AREA)
    kind, options = ("png", []) if longest < 64 else ("jpeg", [cv2.IMWRITE_JPEG_QUALITY, 80])
    _, encoded = cv2.imencode(f".{kind}", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)
    return f"data:image/{kind};base64,{base64.b64encode(encoded.tobytes()).decode()}"
