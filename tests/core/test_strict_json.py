"""JSON that every reader accepts."""

from __future__ import annotations

import json

from darkroom.core import atomic, strict_json


def test_what_is_no_number_is_null(tmp_path):
    """NaN and infinities, also deep inside, are null, and everything else is as it was."""
    value = {"a": [1.5, float("nan"), (float("-inf"), "NaN")], "b": {"c": float("inf")}, "d": None, "e": True}
    expected = {"a": [1.5, None, [None, "NaN"]], "b": {"c": None}, "d": None, "e": True}
    assert json.loads(strict_json.dumps(value)) == expected
    atomic.write_json(tmp_path / "file.json", value)
    assert json.loads((tmp_path / "file.json").read_text()) == expected
