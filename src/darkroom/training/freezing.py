"""Fine-tuning of a part: which blocks are trained, and a cache of the feature maps below them.

`embed` passes every image through the whole frozen network and keeps the maps where fine-tuning will cut it.
`finetune` loads them, or computes them itself. Either way they have the same bytes.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import xxhash

from darkroom.config.params import Embed
from darkroom.core import atomic, strict_json
from darkroom.core.errors import WorkspaceError
from darkroom.models.base import Backbone, Network, Normalize
from darkroom.training import embedding
from darkroom.training.stepper import ParamGroup

CACHE = Path(".darkroom/maps")
DESCRIPTION = "story.json"
EMBED = Embed()
MAX_DISK_SHARE = 0.9  # of the free space on disk
CODE = (Path(embedding.__file__), *sorted(Path(embedding.engines.__file__).parent.rglob("*.py")))  # decides the maps' bytes


def first_trained(backbone: Backbone, amount: float) -> int:
    """Return the index of the first trained block; `amount` is a number of blocks, or a share below 1."""
    count = backbone.block_count
    return count - min(count, math.ceil(amount * count) if amount < 1 else int(amount))


def unfreeze(network: Network, amount: float, decay: float) -> tuple[int, list[ParamGroup]]:
    """Freeze all but the head and the last blocks; return the index of the first trained block and the
    learning-rate groups.

    The head has the full rate, each block below it `decay` times that of the one above (Howard and Ruder
    2018). The network's own fully connected layers are trained with the head.
    """
    backbone = network.features
    assert isinstance(backbone, Backbone)
    count, cut = backbone.block_count, first_trained(backbone, amount)
    network.requires_grad_(False)
    groups = [ParamGroup([*network.head.parameters(), *backbone.own_head().parameters()])]
    for depth in range(1, count - cut + 1):
        parameters = list(backbone.block(count - depth).parameters())
        if parameters:
            groups.append(ParamGroup(parameters, decay**depth))
    for group in groups:
        for parameter in group.parameters:
            parameter.requires_grad_(True)
    return cut, groups


class FeatureMapCache:
    """The feature maps of a backbone before block `cut`: of the views (K, N, C, h, w) and of val (1, N, C, h,
    w), of the type that the params say.

    They are stored in `.darkroom/maps`, with a digest of everything that decides them. `data` identifies the
    images by their content, `engine` is `embedding.engine_identity`.
    """

    def __init__(self, backbone: Backbone, normalize: Normalize, cut: int, data: str, engine: str, settings: Embed = EMBED) -> None:
        self.backbone, self.normalize, self.cut, self.data, self.engine = backbone, normalize, cut, data, engine
        self.dtype, self.most = np.dtype(settings.feature_maps), int(settings.feature_maps_gib * 2**30)
        self.folder = CACHE / backbone.spec.label

    def refusal(self, images: int) -> str:
        """Return why `finetune` does not use the maps of so many images (all views, and val), or an empty
        string.

        It does not depend on the disk: that would change the trained weights in their last digits.
        """
        if not self.backbone.sequential or self.cut == 0:
            return "it cannot be cut there"
        if self.size(images) <= self.most:
            return ""
        return (
            f"its feature maps would take {_gib(self.size(images))}, and `embed.feature_maps_gib` allows {_gib(self.most)}"
            + "; `embed.feature_maps: float16` halves them" * (self.dtype.itemsize > 2)
        )

    def size(self, images: int) -> int:
        """Return how many bytes the maps of so many images take."""
        side = self.backbone.spec.image_size
        with torch.inference_mode():
            one = self.backbone.lower(self.normalize(torch.zeros(1, side, side, 3, dtype=torch.uint8)), self.cut)
        return self.dtype.itemsize * one.numel() * images

    def is_worth_saving(self, images: int) -> bool:
        """Tell whether `finetune` will use the maps and the disk has room for them."""
        if self.refusal(images):
            return False
        try:
            self.check_room(images)
        except WorkspaceError:  # finetune raises it, if it runs
            return False
        return True

    def check_room(self, images: int) -> None:
        """Raise WorkspaceError where the maps would take more than `MAX_DISK_SHARE` of the free disk."""
        free = shutil.disk_usage(Path.cwd()).free
        if self.size(images) > MAX_DISK_SHARE * free:
            raise WorkspaceError(
                f"the feature maps of {self.backbone.spec.name} take {_gib(self.size(images))}, and {_gib(free)} are free",
                "free some, or lower `augment.views`, or raise `finetune.unfreeze` so that more of the network is trained",
            )

    def identity(self) -> str:
        """Return the digest of everything that decides the maps."""
        digest = xxhash.xxh3_128(f"{self.backbone.spec} {self.cut} {self.data} {self.engine} {self.dtype}".encode())
        for index in range(self.cut):
            for value in self.backbone.block(index).state_dict().values():
                digest.update(value.cpu().contiguous().numpy().data)
        for buffer in self.normalize.buffers():
            digest.update(buffer.cpu().contiguous().numpy().data)
        for file in CODE:
            digest.update(file.read_bytes())
        return digest.hexdigest()

    def load(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the maps of the views and of val, memory-mapped; None where they are missing or invalid."""
        try:
            description = strict_json.loads((self.folder / DESCRIPTION).read_text(encoding="utf-8"))
            if description["identity"] != self.identity():
                return None
            train, val = (np.load(self.folder / f"{part}.npy", mmap_mode="c") for part in ("train", "val"))
            if [_checksum(train), _checksum(val)] != description["checksums"]:
                return None
        except (OSError, ValueError, KeyError):
            return None
        return train, val

    @contextmanager
    def save(self) -> Iterator[tuple[Path, Path]]:
        """Yield the files for the maps of the views and of val; they are kept if no error is raised."""
        with atomic.new_folder(self.folder) as folder:
            files = folder / "train.npy", folder / "val.npy"
            yield files
            checksums = [_checksum(np.load(file, mmap_mode="r")) for file in files]
            atomic.write_json(folder / DESCRIPTION, {"identity": self.identity(), "checksums": checksums})


def _gib(size: int) -> str:
    return f"{size / 2**30:.3g} GiB"


def _checksum(maps: np.ndarray) -> str:
    digest = xxhash.xxh3_64()
    for view in maps:
        digest.update(np.ascontiguousarray(view).data)
    return digest.hexdigest()
