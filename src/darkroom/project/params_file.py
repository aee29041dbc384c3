"""params.yaml of a project as a newer Darkroom needs it: keys that are new or renamed; values and comments of a person's stay."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from darkroom.config.yaml_files import parse_yaml
from darkroom.core.errors import ParamsError

RENAMED = {  # `section.key` of an earlier version → what it is called now
    "evaluate.robustness_images": "diagnose.robustness_images",
    "evaluate.views": "diagnose.views",
}
_KEY = re.compile(r"(?P<indent>(?:  )?)(?P<name>\w+):(?P<rest>.*)")
_VALUE = re.compile(r"(\s*\w+:\s*)(.*?)(\s+#.*)?")


@dataclass(frozen=True)
class Carried:
    """The text of a params file, and what was changed in it, a line each."""

    text: str
    changes: list[str]


def carry(text: str, template: str, renamed: Mapping[str, str] = RENAMED) -> Carried:
    """Return the text with the keys of the template that it lacks, in their places and with their comments.

    Raises ParamsError where the file is written in another form than one line a key, so that a person has to add them.
    """
    before, default = parse_yaml(text, "params.yaml"), parse_yaml(template, "params.yaml")
    if not isinstance(before, dict):
        raise ParamsError("params.yaml is not a mapping of sections", "restore it: `git checkout params.yaml`")
    lines, names = text.splitlines(), _positions(template.splitlines())
    expected, changes = _flat(before), []
    for old, new in renamed.items():
        if old in expected and new not in expected:
            lines = _rename(lines, template.splitlines(), old, new)
            expected[new] = expected.pop(old)
            changes.append(f"{old} is now {new}")
    for key, value in _flat(default).items():
        if key not in expected:
            lines = _add(lines, template.splitlines(), key, list(names))
            expected[key] = value
            changes.append(f"{key}: {_shown(value)} is new")
    result = "\n".join(lines) + "\n" if changes else text
    if not _holds(result, expected):
        raise ParamsError(
            f"params.yaml is not written with a line for each key, so that these cannot be written into it: {'; '.join(changes)}",
            "write them yourself, then `darkroom update` again",
        )
    return Carried(result, changes)


def _holds(text: str, expected: Mapping[str, Any]) -> bool:
    """Tell whether a text is YAML with these values."""
    try:
        return _flat(parse_yaml(text, "params.yaml")) == expected
    except ParamsError:
        return False


def _flat(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values by `section.key`, or `key` where it is in no section."""
    flat: dict[str, Any] = {}
    for name, value in content.items():
        flat |= {f"{name}.{key}": inner for key, inner in value.items()} if isinstance(value, dict) else {str(name): value}
    return flat


def _positions(lines: list[str]) -> dict[str, int]:
    """Return the line of each section and key."""
    positions: dict[str, int] = {}
    section = ""
    for number, line in enumerate(lines):
        if match := _KEY.fullmatch(line):
            section = section if match["indent"] else match["name"]
            positions[f"{section}.{match['name']}" if match["indent"] else section] = number
    return positions


def _end(lines: list[str], key: str) -> int:
    """Return the line after a key and what belongs to it: a section's keys, or the lines of a list."""
    number = _positions(lines)[key] + 1
    indent = 2 if "." in key else 0
    last = number
    while number < len(lines):
        line = lines[number]
        if line.strip() and not line.startswith(" " * (indent + 1)) and not line.startswith(" " * indent + "- "):
            break
        number += 1
        last = number if line.strip() else last
    return last


def _add(lines: list[str], template: list[str], key: str, order: list[str]) -> list[str]:
    """Return the lines with a key of the template, after the one that it follows there."""
    section, _, inner = key.partition(".")
    present, here = _positions(lines), _positions(template)
    before = [name for name in order[: order.index(key)] if name in present]
    if inner and section in present:
        siblings = [name for name in before if name.startswith(f"{section}.")]
        place = _end(lines, siblings[-1]) if siblings else present[section] + 1
        return [*lines[:place], template[here[key]], *lines[place:]]
    block = [template[here[section]], *([template[here[key]]] if inner else [])]
    above = [name for name in before if "." not in name]
    if above:
        place = _end(lines, above[-1])
        return [*lines[:place], "", *block, *lines[place:]]
    place = min(present.values(), default=len(lines))  # after the comment at the top
    return [*lines[:place], *block, "", *lines[place:]]


def _rename(lines: list[str], template: list[str], old: str, new: str) -> list[str]:
    """Return the lines with a value under its new key, with the comment of the template."""
    number, target = _positions(lines)[old], _positions(template)[new]
    value, line = _VALUE.fullmatch(lines[number]), _VALUE.fullmatch(template[target])
    if value is None or line is None:
        return lines
    renamed = f"{line[1]}{value[2]}{line[3] or ''}"
    if old.rpartition(".")[0] == new.rpartition(".")[0]:
        return [*lines[:number], renamed, *lines[number + 1 :]]
    changed = [*template[:target], renamed, *template[target + 1 :]]
    return _add([*lines[:number], *lines[number + 1 :]], changed, new, list(_positions(template)))


def _shown(value: Any) -> str:
    return "null" if value is None else str(value) or '""'
