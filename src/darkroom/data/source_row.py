"""The row of a source file while `ingest` works on it."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from darkroom.data.manifest import ImageFacts, Row
from darkroom.data.quarantine_reasons import IGNORE_REASONS, REASONS

_FACTS = tuple(field.name for field in fields(ImageFacts))


@dataclass(slots=True)
class SourceRow(Row):
    """A row of the manifest, its group in the source's table, and the slot of its pixels in the cache."""

    source_group: str = ""
    slot: int = -1

    @property
    def has_fingerprint(self) -> bool:
        return not math.isnan(self.sharpness)

    @property
    def facts(self) -> ImageFacts:
        return ImageFacts(*(getattr(self, name) for name in _FACTS))

    def set_facts(self, facts: ImageFacts) -> None:
        for name in _FACTS:
            setattr(self, name, getattr(facts, name))
        if self.status == "quarantined":
            self.split = ""

    def ignore(self, reason: str) -> SourceRow:
        self.status, self.reason, self.detail = "ignored", reason, IGNORE_REASONS[reason]
        self.label = self.source_label = self.split = ""
        return self

    def quarantine(self, reason: str, detail: str = "") -> SourceRow:
        self.status, self.reason, self.split = "quarantined", reason, ""
        self.detail = f"{REASONS[reason].meaning}{': ' + detail if detail else ''}"
        return self
