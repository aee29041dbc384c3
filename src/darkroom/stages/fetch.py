"""Write a named data set to data/raw."""

from __future__ import annotations

from pathlib import Path

from darkroom.core import atomic
from darkroom.data.datasets import DATASETS, DatasetOptions
from darkroom.stages.context import session


def run(name: str, out: Path) -> None:
    with session("fetch", ["fetch"], []) as (settings, record):
        with atomic.new_folder(out) as folder:
            fetch = settings.fetch
            options = DatasetOptions(count=fetch.glyphs, source=fetch.source, address=fetch.url, version=fetch.version)
            count = DATASETS[name](folder, options)
        record.log_metrics({"images": count})
        print(f"fetch: {count:,} {'files' if name == 'url' else 'images'} of {name} in {out}")
