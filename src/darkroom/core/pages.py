"""Self-contained HTML pages with one look: the layout that the pages of all rooms extend."""

from __future__ import annotations

import base64
from functools import cache
from importlib.resources import files
from typing import Any

import cv2
import numpy as np
from jinja2 import ChoiceLoader, Environment, PackageLoader

from darkroom.core.charts import PALETTE, PALETTE_DARK
from darkroom.core.counts import counted


def render(room: str, template: str, **values: Any) -> str:
    """Return a template of a room (`data`, `data.html.j2`) filled in; it extends `core/layout.html.j2`.

    Templates can import the macros of `core/parts.html.j2` and include `core/charts.css.j2`; `3|counted("image")` is `3 images`.
    """
    return _environment(room).get_template(template).render(**values)


@cache
def _environment(room: str) -> Environment:
    """Return the templates of a room; each is compiled once."""
    loaders = [PackageLoader("darkroom", room), PackageLoader("darkroom", "core")]
    environment = Environment(loader=ChoiceLoader(loaders), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.globals.update(palette=PALETTE, palette_dark=PALETTE_DARK)
    environment.filters["counted"] = counted
    return environment


def text(room: str, name: str) -> str:
    """Return a file of a room unchanged."""
    return files("darkroom").joinpath(room, name).read_text(encoding="utf-8")


def data_uri(kind: str, content: bytes) -> str:
    """Return a file as a data URI; `kind` is its media type, such as `image/png`."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def picture(pixels: np.ndarray, side: int = 112) -> str:
    """Return an RGB image (H, W, 3) uint8, scaled to `side`, as a data URI: JPEG, or PNG below 64 pixels."""
    longest = max(pixels.shape[:2])
    if longest > side:
        shape = (max(1, pixels.shape[1] * side // longest), max(1, pixels.shape[0] * side // longest))
        pixels = cv2.resize(pixels, shape, interpolation=cv2.INTER_AREA)
    kind, options = ("png", []) if longest < 64 else ("jpeg", [cv2.IMWRITE_JPEG_QUALITY, 80])
    _, encoded = cv2.imencode(f".{kind}", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)
    return data_uri(f"image/{kind}", encoded.tobytes())
