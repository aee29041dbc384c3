"""Make K views of every training image."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2

from darkroom.augmentation import storage
from darkroom.augmentation.views import ViewGenerator, preview
from darkroom.config.params import Augment
from darkroom.core import array_files, atomic, shortage
from darkroom.core.errors import ParamsError
from darkroom.data import arrays
from darkroom.stages.context import session

SPARE = 0.9  # of the free space on disk may be taken by views


def run(train: Path, out: Path) -> None:
    with session("augment", ["ingest", "augment"], [train]) as (settings, record):
        params, threads = settings.augment, settings.compute.threads
        images, labels = arrays.load_split(train)
        count = view_count(params)
        if count < params.views:
            print("augment: the policy none makes one view of each image; more would be copies")
        generator = ViewGenerator(params.policy, images.shape[1], params.seed)
        stored = params.storage == "stored"
        if stored:
            _check_space(images.nbytes, count, out)
        with atomic.new_folder(out) as folder:
            if stored:
                storage.write_views(train / "images.npy", generator, count, folder / "views.npy", threads)
            else:
                shortage.copy_file(train / "images.npy", folder / "images.npy")
            array_files.save(folder / "labels.npy", labels)
            storage.write_policy(folder, generator, count, params.storage)
            views, _ = storage.load_views(folder, threads)
            picture = preview(images, views)
            cv2.imwrite(str(folder / "preview.png"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
            record.log_artifact(folder / "preview.png")
        record.log_metrics({"views": count, "images": len(images)})
        described = f"{count} {params.policy} view{'s' if count > 1 else ''} of {len(images):,} images"
        print(f"augment: {described}{'' if stored else ', made while training'}; see {out}/preview.png")


def view_count(params: Augment) -> int:
    """Return how many views of an image are made."""
    return 1 if params.policy == "none" else params.views


def _check_space(view_bytes: int, count: int, out: Path) -> None:
    """Raise ParamsError where `count` views of `view_bytes` each do not fit on the disk of `out`."""
    folder = out.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if view_bytes * count > SPARE * free:
        fitting = int(SPARE * free // max(view_bytes, 1))
        fewer = f"; `augment.views: {fitting}` would fit" if fitting else ""
        raise ParamsError(
            f"{count} views of {view_bytes / 2**30:.3g} GiB each take {view_bytes * count / 2**30:.3g} GiB, and "
            f"{free / 2**30:.3g} GiB are free",
            "set `augment.storage: online`: worker processes then make the same views while training, more slowly and "
            f"without storing them{fewer}",
        )
