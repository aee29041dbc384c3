"""Checksums (sha256) of files, and of the content of a JSON file, which is kept in the file itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

KEY = "checksum"  # in a JSON object: the checksum of its other keys


def of_file(path: Path) -> str:
    """Return the sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_content(content: Mapping[str, Any]) -> str:
    """Return the sha256 of a JSON object, which its layout and the order of its keys do not change."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
