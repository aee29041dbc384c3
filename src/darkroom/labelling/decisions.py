"""The log of what people decided: JSON Lines to which each decision is appended, and brought to the disk, at once."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path

from darkroom.core import strict_json, user_paths


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Decision:
    """What a person said about an image.

    `image` is its path in the source or the inbox, `folder` that source or inbox, `label` the class, empty where it was skipped.
    `line` is the label that a person had given before, empty where none had; `suggested` what the page showed. `undoes` is
    the id of a decision that this one takes back.
    """

    image: str
    folder: str
    queue: str
    label: str
    name: str
    line: str = ""
    suggested: str = ""
    undoes: str = ""
    id: str = field(default_factory=lambda: secrets.token_hex(6))
    at: str = field(default_factory=_now)


_NAMES = {item.name for item in fields(Decision)}


def append(path: Path, decision: Decision) -> None:
    """Append a decision; when this returns it is on the disk.

    The end of a line that a killed process has begun is cut off from the new one. Several processes may append.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    line = strict_json.dumps(asdict(decision), ensure_ascii=False, sort_keys=True).encode("utf-8", "surrogatepass")
    with path.open("a+b") as file:
        size = file.seek(0, os.SEEK_END)
        if size:
            file.seek(size - 1)
            line = line if file.read(1) == b"\n" else b"\n" + line
        file.write(line + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read(path: Path) -> list[Decision]:
    """Return the decisions in their order; none where there is no file. A line that was cut off is left out."""
    if not path.exists():
        return []
    user_paths.check_file(path)
    logged = []
    for line in path.read_bytes().split(b"\n"):
        try:
            content = strict_json.loads(line.decode("utf-8", "surrogatepass"))
        except ValueError:  # UnicodeDecodeError too
            continue
        if isinstance(content, dict) and all(isinstance(value, str) for value in content.values()):
            entry = {key: value for key, value in content.items() if key in _NAMES}
            if {"image", "folder", "queue", "label", "name"} <= entry.keys():
                logged.append(Decision(**entry))
    return logged


def standing(decisions: Iterable[Decision]) -> list[Decision]:
    """Return the decisions that nobody took back, of an image the last one; those that take back are left out.

    Who skips an image takes no label of it away.
    """
    ordered = list(decisions)
    undone = {item.undoes for item in ordered if item.undoes}
    last: dict[tuple[str, str], Decision] = {}
    for item in ordered:
        key = (item.folder, item.image)
        if not item.undoes and item.id not in undone and (item.label or key not in last):
            last[key] = item
    return list(last.values())
