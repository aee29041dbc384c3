"""One file of a source, as its folders or its table describe it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a source: its path there, its label, and the split and group that the source gives it, if
    any.

    `ignored` and `refused` are reasons; `key` is what `Source.read` takes.
    """

    path: str
    label: str = ""
    split: str = ""
    group: str = ""
    ignored: str = ""
    refused: str = ""
    key: object = None
