"""JSON as its standard has it (RFC 8259), without NaN and Infinity, which Python's writer would write; and one reader.

Python's own reader raises RecursionError for a file of 100,000 brackets, which is damage as any other.
"""

from __future__ import annotations

import json
import math
from typing import Any


def dumps(value: Any, **options: Any) -> str:
    """Return a value as JSON; a number that is NaN or infinite is null. `options` are those of `json.dumps`."""
    return json.dumps(_finite(value), allow_nan=False, **options)


def loads(text: str | bytes, **options: Any) -> Any:
    """Return the value of a JSON text. `options` are those of `json.loads`.

    Raises ValueError where it is none, and where it is nested too deeply to be read.
    """
    try:
        return json.loads(text, **options)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
