"""Queues: images that are worth a look, in an order, each with what is said about it."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from darkroom.data import label_fixes, label_suggestions
from darkroom.data.manifest import Row
from darkroom.data.manifest_index import FIXABLE, ManifestIndex
from darkroom.data.quarantine_reasons import REASONS
from darkroom.evaluation import diagnostics_file, metrics_io

SOURCE = ""  # the folder of an image of the source
CONFLICT = "label_conflict"
TEST_NOTE = "a test image: what the model says of it is not shown, so that its label stays a judgement of the picture"


@dataclass(frozen=True)
class Item:
    """An image of a queue: its path in `folder`, an inbox or SOURCE; its label, empty of an inbox; the class that is
    suggested, which may be empty; why it is here. `rows` are those of the manifest that its label holds for, `name` is that by
    which data/label_fixes.csv names it."""

    path: str
    folder: str
    label: str
    split: str
    suggested: str
    why: str
    name: str = ""
    rows: tuple[Row, ...] = ()

    @property
    def id(self) -> str:
        """Return a name for addresses, the same in every session."""
        return hashlib.sha256(f"{self.folder}\0{self.path}".encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True)
class Queue:
    """Images in the order in which they are shown; `note` says where they come from."""

    name: str
    title: str
    note: str
    items: Sequence[Item]


def doubtful(path: Path, index: ManifestIndex, fixes: Mapping[str, str]) -> Queue:
    """Return the labels that `diagnose` doubts, of images that are still those that it judged; none where there is no file."""
    items = []
    for entry in label_suggestions.read(path) if path.exists() else []:
        rows = [row for row in index.matching(entry.path) if entry.sha256 in ("", row.sha256)][:1]
        label = label_fixes.label_of(rows[0], fixes) if rows else ""
        if not rows or entry.outdated(rows[0], label) or entry.suggested not in index.classes:
            continue
        items.append(_of_source(rows, index, label, entry.suggested, entry.described()))
    return Queue("doubtful", "Doubtful labels", f"labels that may be wrong, of {path}", items)


def mistakes(path: Path, index: ManifestIndex, fixes: Mapping[str, str]) -> Queue:
    """Return the test images that the best model misclassifies; none where there is no diagnostics.json."""
    content = metrics_io.read(path, diagnostics_file.Diagnostics) if path.exists() else None
    items = []
    for entry in content.mistakes if content else []:
        rows = [row for row in index.matching(entry.path) if entry.sha256 in ("", row.sha256) and row.reason in FIXABLE][:1]
        label = label_fixes.label_of(rows[0], fixes) if rows else ""
        if rows and label == entry.label:
            items.append(_of_source(rows, index, label, entry.predicted, f"confidence {entry.confidence:.2f}"))
    model = content.model if content else "the best model"
    return Queue("mistakes", "Mistakes", f"test images that {model} misclassifies, the most certain first", items)


def conflicts(rows: Iterable[Row], index: ManifestIndex, fixes: Mapping[str, str]) -> Queue:
    """Return the pictures that the source has under several labels, which `ingest` quarantined; each once, for all its copies."""
    pictures: dict[str, list[Row]] = {}
    for row in rows:
        if row.reason == CONFLICT and row.source_label:
            pictures.setdefault(row.pixel_hash, []).append(row)
    items = []
    for name, copies in pictures.items():
        labels = sorted({label_fixes.label_of(row, fixes) for row in copies})
        others = sorted({row.source_label for row in index.matching(name)} | set(labels))
        # a near copy is a conflict, too: its own picture then has one label
        why = copies[0].detail or REASONS[CONFLICT].meaning
        if len(others) > 1:
            why = f"the source has it as {' and '.join(others)}"
        items.append(Item(copies[0].path, SOURCE, "/".join(labels), copies[0].split, "", why, name, tuple(copies)))
    return Queue("conflicts", "Conflicts", "pictures with several labels, which are not used until one is decided", items)


def arrivals(
    paths: Sequence[str], folder: Path, suggested: Mapping[str, str], why: Mapping[str, str], labels: Mapping[str, str]
) -> Queue:
    """Return images of an inbox, in this order, with the model's suggestion and how certain it is."""
    items = [Item(path, str(folder), labels.get(path, ""), "", suggested.get(path, ""), why.get(path, "")) for path in paths]
    return Queue("inbox", "New images", f"images of {folder}, uncertain ones that stand for many first", items)


def _of_source(rows: Sequence[Row], index: ManifestIndex, label: str, suggested: str, why: str) -> Item:
    row = rows[0]
    name, _ = index.find(row.path)
    if row.split == "test":
        suggested, why = "", TEST_NOTE
    return Item(row.path, SOURCE, label, row.split, suggested, why, name, tuple(rows))


def quarantined(rows: Iterable[Row], shown: Collection[str] = (CONFLICT,)) -> dict[str, tuple[int, str]]:
    """Return how many files are quarantined for each reason that no label decides, and the remedy."""
    counts: dict[str, int] = {}
    for row in rows:
        if row.status == "quarantined" and row.reason not in shown:
            counts[row.reason] = counts.get(row.reason, 0) + 1
    return {reason: (count, REASONS[reason].remedy if reason in REASONS else "") for reason, count in sorted(counts.items())}
