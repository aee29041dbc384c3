"""Train the last blocks of a transferred network on, at a lower rate; what lies below them is computed once per view."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

from darkroom.stages.session import Stopwatch, session, write_model

if TYPE_CHECKING:
    from darkroom.models.backbones import Backbone
    from darkroom.models.network import Network
    from darkroom.training.loop import Group

MOST_SCRATCH = 8 * 2**30  # bytes of feature maps on disk, above which the whole network runs in every epoch
SCRATCH = Path(".darkroom/scratch")


def run(name: str, augmented: Path, val: Path, transfer: Path, out: Path, cost: Path) -> None:
    with session("finetune", ["finetune", "compute"], [augmented, val, transfer]) as (settings, record):
        from dataclasses import replace

        import torch

        from darkroom.data import arrays
        from darkroom.models import checkpoint as checkpoints
        from darkroom.training import embedding
        from darkroom.training.loop import Examples, fit

        watch = Stopwatch()
        hyper, compute = settings.finetune, settings.compute
        network, start = checkpoints.load(transfer)
        backbone: Backbone = network.features  # type: ignore[assignment]
        views, labels = arrays.load(augmented / "views.npy"), arrays.load(augmented / "labels.npy")
        val_images, val_labels = arrays.load_split(val)
        cut, groups = unfreeze(network, hyper.unfreeze, hyper.lr_decay)
        model: torch.nn.Module = network
        train, held = Examples(views, labels), Examples(val_images[None], val_labels)
        files = [SCRATCH / f"{name}-{os.getpid()}-{part}.npy" for part in ("train", "val")]
        try:
            if backbone.sequential and cut > 0 and _map_bytes(network, cut, views.shape) <= MOST_SCRATCH:
                below = embedding.Below(network.normalize, backbone, cut)
                what = f"{name} up to block {cut} of {backbone.block_count}"
                train = Examples(embedding.maps(below, views, compute, files[0], what), labels)
                held = Examples(embedding.maps(below, val_images[None], compute, files[1], "the same of val"), val_labels)
                model = embedding.Above(backbone, network.head, cut)
            trained = fit(
                model, train, held, hyper, compute, len(start.classes),
                what=f"fine-tuning {name} from block {cut + 1}", groups=groups, freeze_statistics=True, on_epoch=record.epoch,
            )  # fmt: skip
        finally:
            for file in files:
                file.unlink(missing_ok=True)
        checkpoint = replace(start, name=f"finetune/{name}", params=hyper.model_dump(), best=trained.best)
        write_model(out, checkpoint, network, trained, record)
        watch.write(cost)
        print(f"finetune/{name}: val accuracy {trained.best['val_accuracy']:.4f} in epoch {trained.best['epoch']}")


def unfreeze(network: Network, amount: float, decay: float) -> tuple[int, list[Group]]:
    """Freeze all but the head and the last blocks; return the index of the first trained block and the learning-rate groups.

    `amount` is a number of blocks, or a share of them below 1. The head has the full rate, each block below it `decay`
    times that of the one above (Howard and Ruder 2018). Fully connected layers of the network's own come with the head.
    """
    from darkroom.training.loop import Group

    backbone: Backbone = network.features  # type: ignore[assignment]
    count = backbone.block_count
    number = min(count, math.ceil(amount * count) if amount < 1 else int(amount))
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    groups = [Group([*network.head.parameters(), *backbone.own_head().parameters()])]
    for depth in range(1, number + 1):
        parameters = list(backbone.block(count - depth).parameters())
        if parameters:
            groups.append(Group(parameters, decay**depth))
    for group in groups:
        for parameter in group.parameters:
            parameter.requires_grad_(True)
    return count - number, groups


def _map_bytes(network: Network, cut: int, shape: tuple[int, ...]) -> int:
    """Return how many bytes the feature maps before block `cut` take for views of shape (K, N, H, W, 3)."""
    import torch

    with torch.inference_mode():
        one = network.features.lower(network.normalize(torch.zeros(1, *shape[2:], dtype=torch.uint8)), cut)  # type: ignore[operator]
    return 4 * one.numel() * shape[0] * shape[1]
