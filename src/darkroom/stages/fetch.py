"""Write a data set that is known by name as a folder of classes under data/raw."""

from __future__ import annotations

from pathlib import Path

from darkroom import atomic
from darkroom.stages.session import session

GLYPHS, SIZE = 5_000, 64


def run(name: str, out: Path) -> None:
    with session("fetch", ["fetch"], []) as (_, record):
        from darkroom.data.datasets import DATASETS

        with atomic.new_folder(out) as folder:
            count = DATASETS[name](folder, SIZE, GLYPHS, 0)
        record.metrics({"images": count})
        print(f"fetch: {count:,} images of {name} in {out}")
