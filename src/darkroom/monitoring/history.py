"""What every check came to, a line of JSON each: `history.jsonl` beside the log."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

FILE = "history.jsonl"
SAID = {
    "embeddings": "they look different ({size:.0%} are told apart from the known ones, half is chance)",
    "classes": "other classes are seen ({size:.0%} of the shares have moved)",
    "confidence": "it is less sure (by {size:.1%} on average)",
}


def read(folder: Path) -> list[dict[str, Any]]:
    """Return the checks, oldest first; a line that is damaged is left out."""
    found = []
    if (folder / FILE).exists():
        for line in (folder / FILE).read_bytes().splitlines():
            try:
                found.append(json.loads(line.decode()))
            except ValueError:  # the machine went off while it was written
                continue
    return found


def append(folder: Path, check: dict[str, Any]) -> None:
    """Add a check."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / FILE).open("ab+") as file:
        if file.tell():
            file.seek(-1, 2)
            cut = file.read(1) != b"\n"
            file.write(b"\n" * cut)  # what was cut off must not take this line with it
        file.write(json.dumps(check, ensure_ascii=False).encode() + b"\n")


def flags(rows: Iterable[dict[str, Any]]) -> dict[str, int]:
    """Return how many pictures have each fault, the most frequent first."""
    return dict(Counter(flag for row in rows for flag in row["flags"] or []).most_common())


def words(check: dict[str, Any]) -> str:
    """Say in a sentence what a check came to."""
    if not check["tests"]:
        return f"{check['images']} images are too few to compare: {check['least']} are needed"
    reasons = [SAID[test["name"]].format(size=test["size"]) for test in check["tests"] if test["drifted"]]
    if not reasons:
        return f"the last {check['images']} images are like those that the model was made for"
    return f"the last {check['images']} images are not like those that the model was made for: " + "; ".join(reasons)
