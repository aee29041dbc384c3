"""Pieces of HTML for notebooks: tables and pictures, without a style sheet of their own."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape

import cv2
import numpy as np


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table. The header is text, the cells are HTML."""
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def picture(image: np.ndarray, text: str, side: int) -> str:
    """Return an image (S, S, 3) uint8 as PNG of `side` pixels; `text` says what it shows."""
    enlarged = cv2.resize(image, (side, side), interpolation=cv2.INTER_NEAREST if image.shape[0] * 2 < side else cv2.INTER_AREA)
    data = cv2.imencode(".png", enlarged[..., ::-1])[1].tobytes()
    return (
        f'<img alt="{escape(text)}" width="{side}" height="{side}" src="data:image/png;base64,{base64.b64encode(data).decode()}">'
    )
