"""The images that a choice may see, at another size than that of the last ingest: decoded from the source again."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from darkroom.config.params import Ingest
from darkroom.core.errors import WorkspaceError
from darkroom.data import ingest, manifest, seen_images
from darkroom.data.source_file import SourceFile


def load(ingested: Path, settings: Ingest, size: int, seed: int) -> np.ndarray:
    """Return the images of `seen_images.load`, in its order, as (N, size, size, 3) uint8.

    Files of other splits are not read. What is decoded stays in the cache of `ingest`. Raises WorkspaceError where the source is
    not what was ingested.
    """
    rows = manifest.read_images(ingested / "manifest.parquet")
    seen = [row for split in seen_images.LEARNT for row in rows[split]]
    seen = [seen[number] for number in seen_images.drawn(len(seen), seed)]
    paths = {row.path for row in seen}

    def choose(files: list[SourceFile]) -> list[SourceFile]:
        return [file for file in files if file.path in paths]

    source, params = Path(settings.source).expanduser(), settings.model_copy(update={"image_size": size})
    images = np.empty((len(seen), size, size, 3), np.uint8)
    with ingest.ingest(source, params, description=f"decoding at {size} pixels", choose=choose) as dataset:
        decoded = {(row.path, row.sha256): row.slot for row in dataset.rows}
        for image, row in zip(images, seen, strict=True):
            slot = decoded.get((row.path, row.sha256), -1)
            if slot < 0:
                raise WorkspaceError(f"{source}: {row.path} is not what was ingested", "run `dvc repro ingest`")
            image[:] = dataset.cache.pixels(slot)
    return images
