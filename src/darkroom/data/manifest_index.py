"""The images of a manifest, by any name that a person uses for one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from darkroom.core.errors import SourceError, nearest, printable
from darkroom.data import class_names
from darkroom.data.manifest import Row

FIXABLE = ("", "label_conflict", "duplicate_across_splits", "group_across_splits")  # reasons that are decided after labels
MOST_COMPARED = 5_000  # paths among which the nearest one is looked for


class ManifestIndex:
    """The rows of a manifest by path and by pixel hash; `source` is the folder or archive that was ingested."""

    def __init__(self, rows: Sequence[Row], source: Path) -> None:
        self.source = source
        self.classes = {row.source_label for row in rows if row.source_label}
        self._rows = [row for row in rows if row.status != "ignored"]
        self._by_name: dict[str, list[Row]] = {}
        for row in self._rows:
            for name in (class_names.normalise(row.path), row.pixel_hash):
                self._by_name.setdefault(name, []).append(row)

    def relative(self, name: str) -> str:
        """Return a name as the manifest has it: a file below the source by its path from there, others unchanged."""
        if class_names.normalise(name) in self._by_name:
            return name
        inside = os.path.relpath(os.path.abspath(name), os.path.abspath(self.source))
        return name if inside.startswith("..") else Path(inside).as_posix()

    def matching(self, name: str) -> list[Row]:
        """Return the rows of an image, several where a pixel hash has copies; none where there is no such image."""
        return self._by_name.get(class_names.normalise(self.relative(name)), []) if name.strip() else []

    def find(self, name: str) -> tuple[str, list[Row]]:
        """Return an image's name for data/label_fixes.csv, and its rows.

        Raises SourceError where there is no such image, or none whose label can be corrected.
        """
        rows = self.matching(name)
        usable = [row for row in rows if row.reason in FIXABLE and row.source_label]
        if not rows:
            base = os.path.basename(class_names.normalise(name))
            paths = [row.path for row in self._rows]
            same = [path for path in paths if os.path.basename(class_names.normalise(path)) == base]
            close = nearest(self.relative(name), same or paths[:MOST_COMPARED]) or (f' (did you mean "{same[0]}"?)' if same else "")
            raise SourceError(
                printable(f'there is no image "{name}" in the last ingest of {self.source}{close}'),
                "name it by its path as reports/data.html does, or by its pixel hash; `dvc repro ingest` reads new files",
            )
        if not usable:
            raise SourceError(
                f"{printable(rows[0].path)} is not used, whatever its label: {rows[0].detail or rows[0].reason}",
                "see reports/data.html for what can be done about it",
            )
        return (usable[0].pixel_hash if name.strip() == usable[0].pixel_hash else usable[0].path), usable

    def check_class(self, label: str) -> str:
        """Return the name of a class in NFC; raise SourceError where the source has none of that name."""
        name = class_names.normalise(label)
        if name not in self.classes:
            names = sorted(self.classes)
            listing = f"{', '.join(names[:8])}{', …' if len(names) > 8 else ''}"
            raise SourceError(
                printable(f'there is no class "{label}"{nearest(name, names)}'),
                f"choose one of the source's classes: {listing}; a new class begins as a folder of its own",
            )
        return name

    def location(self, row: Row) -> str:
        """Return the file of an image where it can be opened, or its path in the source."""
        file = self.source / row.path
        return file.as_posix() if file.is_file() else row.path
