"""Write a named data set to data/raw."""

from __future__ import annotations

from pathlib import Path

from darkroom.core import atomic
from darkroom.data.datasets import DATASETS, DatasetOptions
from darkroom.stages.context import session


def run(name: str, out: Path) -> None:
    with session("fetch", ["fetch"], []) as (settings, record):
        with atomic.new_folder(out) as folder:
            count = DATASETS[name](folder, DatasetOptions(count=settings.fetch.glyphs, source=settings.fetch.source))
        record.log_metrics({"images": count})
        print(f"fetch: {count:,} images of {name} in {out}")
