"""The settings of a section in words, for `--help`."""

from __future__ import annotations

import json
from typing import Any

from darkroom.config.params import Section


def describe(model: type[Section], values: dict[str, Any]) -> list[tuple[str, str]]:
    """Return KEY=VALUE, type and description of each setting."""
    schema = model.model_json_schema()["properties"]
    return [
        (f"{key}={_yaml(values[key])}" if key in values else key, f"{_type_text(schema[key])}: {field.description}")
        for key, field in model.model_fields.items()
    ]


def _yaml(value: Any) -> str:
    """Return a value as YAML in one line."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_yaml(item)}' for key, item in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_yaml, value))}]"
    return json.dumps(value) if value in ("", None) or isinstance(value, bool) else str(value)


def _type_text(schema: dict[str, Any]) -> str:
    """Return the type of a JSON schema in words."""
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "anyOf" in schema:
        return " | ".join(map(_type_text, schema["anyOf"]))
    if schema["type"] == "array":
        return f"list of {_type_text(schema['items'])}"
    return {"string": "text", "object": "mapping"}.get(schema["type"], schema["type"])
