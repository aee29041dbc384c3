"""Turn a source of images into a manifest, a quarantine list, one array per split, and a page that shows the
data.
"""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

from darkroom.config.params import SPLITS, Ingest
from darkroom.core import atomic, csv_cells, tables
from darkroom.core.counts import counted
from darkroom.core.errors import WorkspaceError, printable
from darkroom.data import (
    frozen_splits,
    grouping,
    ingest,
    label_fixes,
    lost_classes,
    manifest,
    page,
    source_state,
    split_warnings,
)
from darkroom.data.frozen_splits import FrozenImage
from darkroom.data.ingest import Dataset
from darkroom.data.page import Summary
from darkroom.data.quality import ISSUES
from darkroom.data.quarantine_reasons import REASONS
from darkroom.data.source_row import SourceRow
from darkroom.data.split_warnings import Move
from darkroom.stages.context import session
from darkroom.tracking.records import Run

REFUSED = Path(".darkroom/quarantine.csv")  # the quarantine list of a source that was refused
QUARANTINE = ("path", "reason", "detail", "remedy")  # columns of quarantine.csv
ATTEMPTS = 3  # to read a source whose files change meanwhile
MAX_LISTED = 5
MAX_CLASSES = 20


def run(out: Path, report: Path, fixes: Path, splits: Path | None = None) -> None:
    with session("ingest", ["ingest"], []) as (settings, record):
        source = Path(settings.ingest.source).expanduser()
        frozen = frozen_splits.read(splits) if splits else []
        for attempt in range(1, ATTEMPTS + 1):
            try:
                _ingest(settings.ingest, source, label_fixes.read(fixes), frozen, splits, out, report, record)
                return
            except _ChangedError as error:
                if attempt == ATTEMPTS:
                    raise source_state.unsteady(source, str(error), ATTEMPTS) from None
                print(f"  files of {source} changed while they were read: {error}; they are read again")


class _ChangedError(Exception):
    """The source is not what was read; says what was added, removed or changed."""


def _ingest(
    params: Ingest, source: Path, fixes: dict[str, str], frozen: list[FrozenImage], splits: Path | None, out: Path, report: Path,
    record: Run,
) -> None:  # fmt: skip
    """Read the source, and write and print everything. Raises _ChangedError, with nothing written, where it changed meanwhile."""
    before = source_state.observe(source) if source.exists() else {}
    with ingest.ingest(source, params, fixes, f"ingest {source}", frozen=frozen) as dataset:
        for note in dataset.source.notes:
            print(f"  {note}")
        try:
            ingest.check(dataset, source, params)
        except Exception:
            _check_unchanged(before, source)
            write_quarantine(dataset.quarantined(), REFUSED)
            _print_quarantine(dataset.quarantined(), REFUSED)
            _print_near_duplicates(dataset, params.near_duplicates)
            raise
        moves = _find_moves(out / "manifest.parquet", dataset)
        with atomic.new_folder(out) as folder:
            manifest.write(folder / "manifest.parquet", dataset.rows)
            write_quarantine(dataset.quarantined(), folder / "quarantine.csv")
            atomic.write_json(folder / "classes.json", list(dataset.classes))
            for name in SPLITS:
                (folder / name).mkdir()
                dataset.write(name, folder / name)
            digest = hashlib.md5((folder / "manifest.parquet").read_bytes()).hexdigest()  # as in dvc.lock
            with atomic.new_file(report) as working:
                working.write_text(page.page(dataset, source, params), encoding="utf-8")
                _check_unchanged(before, source)

        summary = page.summary(dataset)
        _print_warnings(dataset, summary, out, params, moves)
        _print_near_duplicates(dataset, params.near_duplicates)
        _print_table(summary)
        _print_totals(dataset, summary)
        drawn = dataset.groups.drawn
        if drawn.frozen:
            print(f"{counted(drawn.frozen, 'image has its', 'images have their')} split from {splits}")
        print(f"the page of the data: {report}")
        record.log_metrics(
            {
                **{f"images_{name}": summary.splits[name] for name in SPLITS},
                **{f"{status}_files": count for status, count in summary.statuses.items()},
                "quarantined": summary.statuses["quarantined"],
                "duplicate_clusters": len(dataset.groups.duplicates),
                "label_conflicts": len(dataset.groups.conflicts),
                "leaks": len(dataset.groups.leaks),
                **{f"flagged_{name}": count for name, count in summary.flags.items()},
            }
        )
        record.log_artifact(report)
        record.log_artifact(out / "manifest.parquet")
        shape = {"files": len(dataset.rows), **summary.splits, "classes": len(dataset.classes)}
        record.log_dataset(source.name, str(source), digest, shape)


def _check_unchanged(before: source_state.State, source: Path) -> None:
    after = source_state.observe(source) if source.exists() else {}
    if words := source_state.changes(before, after):
        raise _ChangedError(words)


def _find_moves(path: Path, dataset: Dataset) -> list[Move]:
    """Return the images that the last manifest has in another split; where there are some, write where they were."""
    if not path.exists():
        return []
    try:
        previous = manifest.read(path)
    except WorkspaceError as error:  # it is about to be replaced
        print(f"ingest: {error.problem}; images that are in another split than before cannot be named")
        return []
    moves = split_warnings.find_moves(previous, dataset.rows)
    if moves:
        frozen_splits.write(frozen_splits.PREVIOUS, frozen_splits.freeze(previous, [])[0])
    return moves


def write_quarantine(rows: list[SourceRow], path: Path) -> None:
    """Write the list of quarantined files, each with its reason and remedy."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(QUARANTINE)
        cells = ([row.path, row.reason, row.detail, REASONS[row.reason].remedy] for row in rows)
        writer.writerows(map(csv_cells.escaped, cells))


def _print_quarantine(rows: list[SourceRow], path: Path) -> None:
    for row in rows[:MAX_LISTED]:
        print(f"  quarantined {row.path!r}: {row.reason} ({row.detail})")
    if len(rows) > MAX_LISTED:
        print(f"  … and {len(rows) - MAX_LISTED} more, all in {path}")


def _print_warnings(dataset: Dataset, summary: Summary, out: Path, params: Ingest, moves: list[Move]) -> None:
    """Print the quarantined files, leaks, unused label fixes, faults of the splits and images that moved."""
    _print_quarantine(dataset.quarantined(), out / "quarantine.csv")
    leaks, torn = dataset.groups.leaks, dataset.groups.torn
    for members in leaks[:MAX_LISTED]:
        print(f"  warning: the source has the same picture in several splits: {printable(', '.join(row.path for row in members))}")
    if len(leaks) > MAX_LISTED:
        print(f"  warning: and {len(leaks) - MAX_LISTED} more such pictures")
    if torn:
        names = printable(", ".join(members[0].group for members in torn[:MAX_LISTED]))
        lie = counted(len(torn), "group of the table lies", "groups of the table lie")
        print(f"  warning: {lie} in several of the source's own splits: {names}")
    for lost in dataset.lost_classes():
        print(f"  warning: {lost_classes.sentence(lost)}")
    if dataset.unused_fixes:
        names = printable(", ".join(dataset.unused_fixes[:MAX_LISTED]))
        print(f"  warning: label fixes for images that do not exist or are not used: {names}")
    for warning in split_warnings.warnings(dataset.groups.drawn, summary.classes, dataset.source.ready_splits, params):
        print(f"  warning: {warning}")
    if moves:
        print(f"  warning: {split_warnings.describe_moves(moves)}; `darkroom splits freeze --before` puts them back")


def _print_near_duplicates(dataset: Dataset, setting: str) -> None:
    """Print the classes that copies take much of."""
    for sentence in grouping.near_duplicate_warnings(dataset.rows, dataset.groups, setting)[: 2 * MAX_LISTED]:
        print(f"  warning: {printable(sentence)}")


def _print_table(summary: Summary) -> None:
    """Print the number of images of each class and split."""
    rows = [[label, *(f"{counts[name]:,}" for name in SPLITS)] for label, counts in summary.classes.items()]
    more = [[f"… and {len(rows) - MAX_CLASSES} more classes"]] if len(rows) > MAX_CLASSES else []
    total = ["all", *(f"{summary.splits[name]:,}" for name in SPLITS)]
    print()
    tables.show(["class", *SPLITS], [*rows[:MAX_CLASSES], *more, total], right=SPLITS)
    print()


def _print_totals(dataset: Dataset, summary: Summary) -> None:
    groups = dataset.groups
    copies = sum(len(members) for members in groups.duplicates)
    flagged = ", ".join(f"{summary.flags[flag]} {kind}" for flag, (kind, _) in ISSUES.items() if summary.flags[flag])
    print(
        f"ingest: {counted(len(dataset.rows), 'file')}: {summary.statuses['accepted']:,} accepted, "
        f"{summary.statuses['quarantined']:,} quarantined, {summary.statuses['ignored']:,} ignored; "
        f"{counted(copies, 'copy', 'copies')} of "
        f"{counted(len(groups.duplicates), 'picture')}, {counted(len(groups.conflicts), 'conflict')}, "
        f"{counted(len(groups.leaks), 'leak')}" + (f"; {flagged}" if flagged else "")
    )
