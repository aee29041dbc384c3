"""Turn a source of images into a manifest, a quarantine list, one array per split, and a page that shows the data."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from darkroom.core import atomic
from darkroom.stages.context import session

if TYPE_CHECKING:
    from darkroom.data.ingest import Dataset, Row

REFUSED = Path(".darkroom/quarantine.csv")  # the list of a source that was refused


def run(out: Path, report: Path, fixes: Path) -> None:
    with session("ingest", ["ingest"], []) as (settings, record):
        import pyarrow as pa
        import pyarrow.parquet as pq

        from darkroom.data import ingest, page
        from darkroom.data import label_fixes as corrections
        from darkroom.data.manifest import COLUMNS
        from darkroom.data.sources import SPLITS

        params = settings.ingest
        source = Path(params.source).expanduser()
        with ingest.ingest(source, params, corrections.read(fixes), what=f"ingest {source}") as dataset:
            try:
                ingest.check(dataset, source, params)
            except Exception:
                write_quarantine(dataset.quarantined(), REFUSED)
                _show_quarantine(dataset.quarantined(), REFUSED)
                raise
            with atomic.new_folder(out) as folder:
                columns: dict[str, list] = {name: [] for name in COLUMNS}
                for row in dataset.rows:
                    for name, value in row.columns().items():
                        columns[name].append(value)
                pq.write_table(pa.table(columns), folder / "manifest.parquet")
                write_quarantine(dataset.quarantined(), folder / "quarantine.csv")
                atomic.write_json(folder / "classes.json", list(dataset.classes))
                for name in SPLITS:
                    (folder / name).mkdir()
                    dataset.write(name, folder / name)
                digest = hashlib.md5((folder / "manifest.parquet").read_bytes()).hexdigest()  # as dvc.lock will have it
                with atomic.new_file(report) as working:
                    working.write_text(page.page(dataset, source, params), encoding="utf-8")

            summary = page.summary(dataset)
            _show(dataset, out, params.split_by)
            print(f"the data, to look at: {report}")
            counts = {f"images_{name}": summary.splits[name] for name in SPLITS}
            record.metrics(
                {
                    **counts, **{f"{status}_files": count for status, count in summary.statuses.items()},
                    "quarantined": summary.statuses["quarantined"], "duplicate_clusters": len(dataset.clusters),
                    "label_conflicts": len(dataset.conflicts), "leaks": len(dataset.leaks),
                    **{f"flagged_{name}": count for name, count in summary.flags.items()},
                }
            )  # fmt: skip
            record.file(report)
            record.file(out / "manifest.parquet")
            shape = {"files": len(dataset.rows), **summary.splits, "classes": len(dataset.classes)}
            record.data(source.name, str(source), digest, shape)


def write_quarantine(rows: list[Row], path: Path) -> None:
    """Write the list of quarantined files, each with its reason and what to do."""
    from darkroom.data.quarantine_reasons import REMEDIES

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "reason", "detail", "remedy"])
        writer.writerows([row.path, row.reason, row.detail, REMEDIES[row.reason]] for row in rows)


def _show_quarantine(rows: list[Row], path: Path) -> None:
    for row in rows[:5]:
        print(f"  quarantined {row.path!r}: {row.reason} ({row.detail})")
    if len(rows) > 5:
        print(f"  … and {len(rows) - 5} more, all in {path}")


def _show(dataset: Dataset, out: Path, split_by: str) -> None:
    """Print what a person wants to know of the data at once."""
    from darkroom.core.errors import printable
    from darkroom.data.page import summary
    from darkroom.data.quality import ISSUES
    from darkroom.data.sources import SPLITS

    counted = summary(dataset)
    _show_quarantine(dataset.quarantined(), out / "quarantine.csv")
    for members in dataset.leaks[:5]:
        print(f"  warning: the source has the same picture in several splits: {printable(', '.join(row.path for row in members))}")
    if len(dataset.leaks) > 5:
        print(f"  warning: and {len(dataset.leaks) - 5} more such pictures")
    if dataset.torn:
        names = printable(", ".join(members[0].group for members in dataset.torn[:5]))
        print(f"  warning: the source's own splits tear apart {len(dataset.torn)} groups of the table: {names}")
    if dataset.unused_fixes:
        print(
            f"  warning: label fixes for images that are not there, or not used: {printable(', '.join(dataset.unused_fixes[:5]))}"
        )
    for label, held in counted.classes.items():
        absent = [name for name in SPLITS if not held[name]]
        if absent:
            helps = split_by == "hash" and not dataset.ready.issuperset(absent)
            remedy = "set `ingest.split_by` to stratified, or add images" if helps else "add images"
            print(f"  warning: {label} has no image for {' and '.join(absent)}: {remedy}")
    width = max(len("class"), *(len(label) for label in counted.classes))
    print(f"\n{'class':<{width}}" + "".join(f"{name:>9}" for name in SPLITS))
    shown = list(counted.classes.items())
    for label, held in shown[:20]:
        print(f"{label:<{width}}" + "".join(f"{held[name]:>9,}" for name in SPLITS))
    if len(shown) > 20:
        print(f"… and {len(shown) - 20} more classes")
    print(f"{'all':<{width}}" + "".join(f"{counted.splits[name]:>9,}" for name in SPLITS) + "\n")
    copies = sum(len(members) for members in dataset.clusters)
    flagged = ", ".join(f"{counted.flags[flag]} {kind}" for flag, (kind, _) in ISSUES.items() if counted.flags[flag])
    print(
        f"ingest: {len(dataset.rows):,} files: {counted.statuses['accepted']:,} accepted, "
        f"{counted.statuses['quarantined']:,} quarantined, {counted.statuses['ignored']:,} ignored; {copies:,} copies of "
        f"{_counted(len(dataset.clusters), 'picture')}, {_counted(len(dataset.conflicts), 'conflict')}, "
        f"{_counted(len(dataset.leaks), 'leak')}" + (f"; {flagged}" if flagged else "")
    )


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
