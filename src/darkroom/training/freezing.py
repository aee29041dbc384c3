"""Which blocks of a transferred network are trained on, and the feature maps below them, which never change.

`embed` passes every image through the whole frozen network and keeps the maps at the place where fine-tuning will cut it;
`finetune` finds them, or makes them itself. They are state that can be rebuilt: the same bytes either way.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import xxhash

from darkroom.core import atomic
from darkroom.core.errors import WorkspaceError
from darkroom.training import embedding
from darkroom.training.loop import Group

if TYPE_CHECKING:
    from darkroom.models.backbones import Backbone
    from darkroom.models.base import Network, Normalize

MAPS = Path(".darkroom/maps")
MOST = 8 * 2**30  # bytes of feature maps, above which the whole network runs in every epoch
SPARE = 0.9  # of the free space on disk may be taken by them
CODE = (Path(embedding.__file__), *sorted(Path(embedding.engines.__file__).parent.glob("*.py")))


def first_trained(backbone: Backbone, amount: float) -> int:
    """Return the index of the first block that is trained; `amount` is a number of blocks, or a share of them below 1."""
    count = backbone.block_count
    return count - min(count, math.ceil(amount * count) if amount < 1 else int(amount))


def unfreeze(network: Network, amount: float, decay: float) -> tuple[int, list[Group]]:
    """Freeze all but the head and the last blocks; return the index of the first trained block and the learning-rate groups.

    The head has the full rate, each block below it `decay` times that of the one above (Howard and Ruder 2018). Fully
    connected layers of the network's own come with the head.
    """
    backbone: Backbone = network.features  # type: ignore[assignment]
    count, cut = backbone.block_count, first_trained(backbone, amount)
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    groups = [Group([*network.head.parameters(), *backbone.own_head().parameters()])]
    for depth in range(1, count - cut + 1):
        parameters = list(backbone.block(count - depth).parameters())
        if parameters:
            groups.append(Group(parameters, decay**depth))
    for group in groups:
        for parameter in group.parameters:
            parameter.requires_grad_(True)
    return cut, groups


class Maps:
    """The feature maps of one backbone before block `cut`: of the views (K, N, C, h, w) and of val (1, N, C, h, w) float32.

    `data` identifies the images by their content.
    """

    def __init__(self, backbone: Backbone, normalize: Normalize, cut: int, data: str) -> None:
        self.backbone, self.normalize, self.cut, self.data = backbone, normalize, cut, data
        self.folder = MAPS / backbone.spec.name

    def refused(self, images: int) -> str:
        """Return why `finetune` does without the maps of so many images (all views, and val), or nothing.

        It does not depend on the disk: that would change the trained weights in their last digits.
        """
        if not self.backbone.sequential or self.cut == 0:
            return "it cannot be cut there"
        if self.size(images) <= MOST:
            return ""
        return f"its feature maps would take {self.size(images) / 2**30:.3g} GiB, and {MOST / 2**30:.3g} are allowed"

    def size(self, images: int) -> int:
        """Return how many bytes the maps of so many images take."""
        side = self.backbone.spec.image_size
        with torch.inference_mode():
            one = self.backbone.lower(self.normalize(torch.zeros(1, side, side, 3, dtype=torch.uint8)), self.cut)
        return 4 * one.numel() * images

    def wanted(self, images: int) -> bool:
        """Tell whether maps are worth keeping on the way to embeddings: `finetune` will use them, and there is room."""
        if self.refused(images):
            return False
        try:
            self.check_room(images)
        except WorkspaceError:  # finetune says so, should it come to that
            return False
        return True

    def check_room(self, images: int) -> None:
        """Raise WorkspaceError where the maps would take more than `SPARE` of the free disk."""
        free = shutil.disk_usage(Path.cwd()).free
        if self.size(images) > SPARE * free:
            needed = f"{self.size(images) / 2**30:.3g} GiB, and {free / 2**30:.3g} are free"
            raise WorkspaceError(
                f"the feature maps of {self.backbone.spec.name} take {needed}",
                "free some, or lower `augment.views`, or raise `finetune.unfreeze` so that more of the network is trained",
            )

    def identity(self) -> str:
        """Return the digest of all that decides the maps."""
        digest = xxhash.xxh3_128(f"{self.backbone.spec} {self.cut} {self.data} {torch.__version__}".encode())
        for index in range(self.cut):
            for value in self.backbone.block(index).state_dict().values():
                digest.update(value.cpu().contiguous().numpy().data)
        for buffer in self.normalize.buffers():
            digest.update(buffer.cpu().contiguous().numpy().data)
        for file in CODE:
            digest.update(file.read_bytes())
        return digest.hexdigest()

    def recall(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the maps of the views and of val, where they are kept and whole."""
        try:
            story = json.loads((self.folder / "story.json").read_text())
            if story["identity"] != self.identity():
                return None
            train, val = (np.load(self.folder / f"{part}.npy", mmap_mode="c") for part in ("train", "val"))
            if [_checksum(train), _checksum(val)] != story["checksums"]:
                return None
        except (OSError, ValueError, KeyError):
            return None
        return train, val

    @contextmanager
    def remember(self) -> Iterator[tuple[Path, Path]]:
        """Yield the files to write the maps of the views and of val to; they are kept if the block ends well."""
        with atomic.new_folder(self.folder) as folder:
            files = folder / "train.npy", folder / "val.npy"
            yield files
            checksums = [_checksum(np.load(file, mmap_mode="r")) for file in files]
            atomic.write_json(folder / "story.json", {"identity": self.identity(), "checksums": checksums})


def _checksum(maps: np.ndarray) -> str:
    digest = xxhash.xxh3_64()
    for view in maps:
        digest.update(np.ascontiguousarray(view).data)
    return digest.hexdigest()
