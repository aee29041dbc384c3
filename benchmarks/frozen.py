"""The frozen pass and the views, alone: `embed`'s engine against eager PyTorch, `augment` against a bare
Albumentations loop.

    python benchmarks/frozen.py FOLDER [--weights FOLDER] [--network mobilenet_v2] [--size 160] [--images 256]

frozen   images a second; the share of the machine's peak in a matrix product; the largest difference
         from torch's float32
augment  views a second of recipe `photos`' policy, written to disk, against the same transforms in as many
         bare processes
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import tempfile
from pathlib import Path

import cv2
import numpy as np
import torch
from measuring import alternating, median, report, seconds
from torch import nn

from darkroom.augmentation import storage
from darkroom.augmentation.lean import albumentations
from darkroom.augmentation.policies import POLICIES
from darkroom.augmentation.views import ViewGenerator
from darkroom.data.decoding import decode
from darkroom.models import engine, weight_files
from darkroom.models import weights as stored
from darkroom.models.backbones.torchvision import TorchvisionBackbone
from darkroom.models.base import Normalize
from darkroom.models.macs import multiply_adds
from darkroom.models.specs import BackboneSpec

THREADS = 2


def pictures(folder: Path, size: int, count: int) -> np.ndarray:
    """Return `count` photographs of the folder as ingest crops them: (N, size, size, 3) uint8."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))[:count]
    decoded = [decode(file.read_bytes(), size, "crop", (0, 0, 0)).pixels for file in paths]
    images = np.stack([pixels for pixels in decoded if pixels is not None])
    return np.resize(images, (count, size, size, 3))


def frozen(images: np.ndarray, network: str, weights: Path | None) -> list[dict[str, object]]:
    torch.set_num_threads(THREADS)
    backbone = TorchvisionBackbone(BackboneSpec(network, images.shape[1]))
    if weights:
        stored.fill(backbone, stored.read(weight_files.find(weights, network)), str(weights))
    normalize = Normalize(*stored.normalization(network, "imagenet"))
    eager = nn.Sequential(normalize, backbone).eval()
    chosen = engine.select_engine(eager, images, torch.device("cpu"), THREADS)
    square = torch.randn(3072, 3072)

    def ours() -> float:
        return seconds(lambda: list(chosen.stream(images[i : i + chosen.batch] for i in range(0, len(images), chosen.batch))))

    def theirs() -> float:
        def work() -> None:
            with torch.inference_mode():
                for i in range(0, len(images), 32):
                    eager(torch.from_numpy(images[i : i + 32]))

        return seconds(work)

    def peak() -> float:
        return 2 * 3072**3 * 3 / seconds(lambda: [square @ square for _ in range(3)])

    for work in (ours, theirs, peak):
        work()
    times = alternating(5, ours, theirs, peak)
    flops = 2 * multiply_adds(backbone, images.shape[1])
    rates = [[len(images) / t for t in values] for values in times[:2]]
    return [
        {"task": f"frozen {network}, {images.shape[1]} px", "darkroom /s": median(rates[0]), "bare /s": median(rates[1]),
         "ratio": median([a / b for a, b in zip(*rates, strict=True)]),
         "of peak": median([rate * flops / p for rate, p in zip(rates[0], times[2], strict=True)]),
         "difference": engine.relative_difference(chosen, eager, images[:32])},
    ]  # fmt: skip


def _loop(arguments: tuple[str, int, int, int, int]) -> None:
    """A plain loop: the transforms over some of the images, views into a memory map."""
    folder, size, start, stop, count = arguments
    cv2.setNumThreads(1)
    transform = albumentations.Compose(POLICIES["standard"](size), seed=int(start))
    images = np.load(f"{folder}/images.npy", mmap_mode="r")
    views = np.lib.format.open_memmap(f"{folder}/bare.npy", "r+")
    for i in range(start, stop):
        for k in range(count):
            views[k, i] = transform(image=images[i])["image"]


def augment(images: np.ndarray, count: int = 4) -> list[dict[str, object]]:
    size = images.shape[1]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        np.save(place / "images.npy", images)
        viewer = ViewGenerator("standard", size, 0)

        def ours() -> float:
            return seconds(lambda: storage.write_views(place / "images.npy", viewer, count, place / "views.npy", THREADS))

        def bare() -> float:
            def work() -> None:
                np.lib.format.open_memmap(place / "bare.npy", "w+", np.uint8, (count, *images.shape)).flush()
                cuts = np.linspace(0, len(images), THREADS + 1).astype(int)
                with multiprocessing.get_context("fork").Pool(THREADS) as pool:
                    pool.map(_loop, [(folder, size, a, b, count) for a, b in itertools.pairwise(cuts)])

            return seconds(work)

        rates = [[count * len(images) / t for t in values] for values in alternating(5, ours, bare)]
    return [{
        "task": f"augment standard, {size} px", "darkroom /s": median(rates[0]), "bare /s": median(rates[1]),
        "ratio": median([a / b for a, b in zip(*rates, strict=True)]), "of peak": "", "difference": "",
    }]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--network", default="mobilenet_v2")
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--images", type=int, default=256)
    options = parser.parse_args()
    images = pictures(options.folder, options.size, options.images)
    rows = augment(np.concatenate([images] * 2))
    rows += frozen(images, options.network, options.weights)
    report(f"frozen-{options.network}", rows)


if __name__ == "__main__":
    main()
