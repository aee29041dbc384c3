"""Write a data set that is known by name to data/raw."""

from __future__ import annotations

from pathlib import Path

from darkroom.core import atomic
from darkroom.stages.context import session


def run(name: str, out: Path) -> None:
    with session("fetch", ["fetch"], []) as (settings, record):
        from darkroom.data.datasets import DATASETS, Wanted

        with atomic.new_folder(out) as folder:
            count = DATASETS[name](folder, Wanted(count=settings.fetch.glyphs, source=settings.fetch.source))
        record.metrics({"images": count})
        print(f"fetch: {count:,} images of {name} in {out}")
