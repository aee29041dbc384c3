"""A row of the manifest: one file of a source, and what became of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from darkroom.data.quarantine_reasons import REASONS

_FACTS = (
    "format", "mode", "width", "height", "frames", "pixel_hash",
    "darkest", "brightest", "entropy", "sharpness", "flags", "status", "reason", "detail",
)  # fmt: skip
COLUMNS = (
    "path", "label", "source_label", "split", "sha256", "pixel_hash", "perceptual_hash", "group", "copies", "format", "mode",
    "width", "height", "frames", "bytes", "darkest", "brightest", "entropy", "sharpness", "flags", "status", "reason", "detail",
)  # fmt: skip


@dataclass(slots=True)
class Row:
    """One source file; `status` is accepted, quarantined or ignored.

    `group` names the images that share a split with it, `copies` counts the duplicates in it, this file included. Brightness,
    entropy and sharpness are those of `quality.Figures`, NaN where there are none. `slot` is where the store has the pixels.
    """

    path: str
    label: str = ""
    source_label: str = ""
    split: str = ""
    sha256: str = ""
    pixel_hash: str = ""
    perceptual_hash: str = ""
    group: str = ""
    copies: int = 1
    format: str = ""
    mode: str = ""
    width: int = 0
    height: int = 0
    frames: int = 0
    bytes: int = 0
    darkest: float = float("nan")
    brightest: float = float("nan")
    entropy: float = float("nan")
    sharpness: float = float("nan")
    flags: tuple[str, ...] = ()
    status: str = "accepted"
    reason: str = ""
    detail: str = ""
    given_group: str = ""
    slot: int = -1

    @property
    def has_thumbnail(self) -> bool:
        return not math.isnan(self.sharpness)

    def quarantine(self, reason: str, detail: str = "") -> None:
        self.status, self.reason, self.split = "quarantined", reason, ""
        self.detail = f"{REASONS[reason]}{': ' + detail if detail else ''}"

    def facts(self) -> dict[str, Any]:
        """Return what depends on the content alone."""
        return {name: getattr(self, name) for name in _FACTS}

    def take(self, facts: dict[str, Any]) -> None:
        """Set what depends on the content alone."""
        for name in _FACTS:
            setattr(self, name, facts[name])
        self.flags = tuple(self.flags)
        if self.status == "quarantined":
            self.split = ""

    def columns(self) -> dict[str, Any]:
        """Return the row as the manifest has it."""
        return {name: getattr(self, name) for name in COLUMNS} | {"flags": " ".join(self.flags)}
