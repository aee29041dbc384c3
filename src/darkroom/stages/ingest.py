"""Turn a folder of image files into a manifest, a quarantine list and one array per split."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from darkroom import atomic
from darkroom.stages.session import session

if TYPE_CHECKING:
    from darkroom.data.ingest import Row

REFUSED = Path(".darkroom/quarantine.csv")  # the list of a source that was refused


def run(out: Path) -> None:
    with session("ingest", ["ingest"], []) as (settings, record):
        import numpy as np
        import pyarrow as pa
        import pyarrow.parquet as pq

        from darkroom.data import ingest
        from darkroom.data.sources import SPLITS

        params = settings.ingest
        source = Path(params.source).expanduser()
        dataset = ingest.ingest(source, params, settings.compute.threads, what=f"ingest {source}")
        try:
            ingest.check(dataset, source, params)
        except Exception:
            _explain_quarantine(dataset.quarantined(), REFUSED)
            raise

        with atomic.new_folder(out) as folder:
            columns = {key: [row.as_dict()[key] for row in dataset.rows] for key in ingest.ROW}
            pq.write_table(pa.table(columns), folder / "manifest.parquet")
            _explain_quarantine(dataset.quarantined(), folder / "quarantine.csv", out / "quarantine.csv")
            atomic.write_json(folder / "classes.json", list(dataset.classes))
            for name in SPLITS:
                (folder / name).mkdir()
                images, labels = dataset.arrays(name)
                np.save(folder / name / "images.npy", images)
                np.save(folder / name / "labels.npy", labels)
            digest = hashlib.sha256((folder / "manifest.parquet").read_bytes()).hexdigest()

        counts = {name: len(dataset.split(name)) for name in SPLITS}
        statuses = Counter(row.status for row in dataset.rows)
        for paths in dataset.leaks[:5]:
            print(f"  warning: the folder has the same picture in several splits, one of them was kept: {', '.join(paths)}")
        if len(dataset.leaks) > 5:
            print(f"  warning: and {len(dataset.leaks) - 5} more such pictures")
        for name in ("val", "test"):
            held = {row.label for row in dataset.split(name)}
            for absent in sorted(set(dataset.classes) - held):
                print(f"  warning: no {name} image of {absent}; its figures there are undefined")
        print(
            f"ingest: {len(dataset.rows):,} files, {statuses['accepted']:,} accepted, "
            f"{statuses['quarantined']:,} quarantined, {statuses['ignored']:,} ignored; {len(dataset.classes)} classes; "
            + ", ".join(f"{name} {count:,}" for name, count in counts.items())
        )
        record.metrics({**{f"images_{name}": count for name, count in counts.items()}, "quarantined": statuses["quarantined"]})
        record.data(source.name, str(source), digest, {"files": len(dataset.rows), **counts, "classes": len(dataset.classes)})


def _explain_quarantine(rows: list[Row], path: Path, shown: Path | None = None) -> None:
    """Write the list of quarantined files, and show the first few."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "reason", "detail"])
        writer.writerows([row.path, row.reason, row.detail] for row in rows)
    for row in rows[:5]:
        print(f"  quarantined {row.path!r}: {row.reason} ({row.detail})")
    if len(rows) > 5:
        print(f"  … and {len(rows) - 5} more, all in {shown or path}")
