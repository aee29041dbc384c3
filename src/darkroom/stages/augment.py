"""Make K views of every training image."""

from __future__ import annotations

from pathlib import Path

from darkroom import atomic
from darkroom.stages.session import session


def run(train: Path, out: Path) -> None:
    with session("augment", ["augment"], [train]) as (settings, record):
        import cv2
        import numpy as np

        from darkroom.augmentation.views import Viewer, preview, write_views
        from darkroom.data import arrays

        cv2.setNumThreads(settings.compute.threads)
        params = settings.augment
        images, labels = arrays.load_split(train)
        count = params.views
        if params.policy == "none" and count > 1:
            print("augment: the policy none makes one view of each image; more would be copies")
            count = 1
        viewer = Viewer(params.policy, images.shape[1], params.seed)
        with atomic.new_folder(out) as folder:
            views = np.lib.format.open_memmap(folder / "views.npy", "w+", np.uint8, (count, *images.shape))
            write_views(images, viewer, views)
            views.flush()
            np.save(folder / "labels.npy", labels)
            atomic.write_json(folder / "policy.json", viewer.as_dict() | {"views": count})
            picture = preview(images, views)
            cv2.imwrite(str(folder / "preview.png"), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
            record.file(folder / "preview.png")
        record.metrics({"views": count, "images": len(images)})
        print(
            f"augment: {count} {params.policy} view{'s' if count > 1 else ''} of {len(images):,} images; look at {out}/preview.png"
        )
