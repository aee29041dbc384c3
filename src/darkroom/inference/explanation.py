"""Heat maps of the pixels that a prediction depends on, and a page that shows them.

LayerCAM (Jiang et al. 2021) for networks that are a chain of feature maps, on the deepest map that is large
enough to locate anything; occlusion (Zeiler and Fergus 2014) for transformers and perceptrons: the drop of
the probability when a place is covered. Grad-CAM (Selvaraju et al. 2017), on the last map, is there for
comparison; perceptrons have no maps for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.nn import functional as F

from darkroom.core import atomic, pages
from darkroom.core.errors import ParamsError, printable
from darkroom.inference.classifier import batches
from darkroom.models.base import Network
from darkroom.models.feature_maps import FeatureMaps, maps_of

MIN_MAP = 7  # pixels a side of the map that LayerCAM uses, if the network has one of that size
GRID = 8  # places a side that are covered one after the other
MIN_PICTURE = 224  # pixels a side of a picture
BATCH = 16
MARK = "darkroom: heat maps"  # in every page, so that it is recognised as one
Item = tuple[str, str, float, np.ndarray, np.ndarray]  # path, label, confidence, image (S, S, 3) uint8, heat map (S, S)
METHODS = {"LayerCAM": "Jiang et al. 2021", "Grad-CAM": "Selvaraju et al. 2017", "occlusion": "Zeiler and Fergus 2014"}


def choose_method(network: Network, method: str = "") -> str:
    """Return the method: the requested one, else LayerCAM for chains of feature maps. Perceptrons allow occlusion only."""
    if maps_of(network.features) is None:
        return "occlusion"
    return method or ("occlusion" if network.features.chain() is None else "LayerCAM")


def heat_maps(network: Network, images: np.ndarray, targets: Sequence[int], method: str = "") -> tuple[np.ndarray, str]:
    """Return the influence of each pixel on the target class of its image, (N, S, S) float32 from 0 to 1, and the
    method.

    `images` (N, S, S, 3) uint8. A map is zero everywhere if nothing speaks for the class.
    """
    maps, method = maps_of(network.features), choose_method(network, method)
    device = next(network.parameters()).device
    parts = []
    for start, batch in zip(range(0, len(images), BATCH), batches(images, BATCH), strict=True):
        batch, classes = batch.to(device), torch.tensor(list(targets[start : start + BATCH]), device=device)
        if maps is None or method == "occlusion":
            parts.append(_occlusion(network, batch, classes))
        else:
            parts.append(_activation(network, maps, batch, classes, method))
    heats = torch.cat(parts).cpu().clamp(min=0)
    largest = heats.amax((1, 2), keepdim=True)
    return (heats / torch.where(largest > 0, largest, 1)).numpy(), method


def _activation(network: Network, maps: FeatureMaps, images: torch.Tensor, targets: torch.Tensor, method: str) -> torch.Tensor:
    """Return class activation maps (N, S, S): feature maps, weighted by the gradient of the class's logit."""
    with torch.no_grad():
        x, outputs = network.normalize(images), []
        for step in maps.steps:
            x = step(x.clone())  # steps may work in place
            outputs.append(x)
    sizes = [min(maps.grid(x).shape[2:]) for x in outputs]
    needed = min(MIN_MAP if method == "LayerCAM" else 2, max(sizes))
    layer = max(index for index, size in enumerate(sizes) if size >= needed)
    leaf = outputs[layer].detach().requires_grad_()
    with torch.enable_grad():
        x = leaf.clone()
        for step in maps.steps[layer + 1 :]:
            x = step(x)
        logits = network.head(maps.tail(x))
        (gradient,) = torch.autograd.grad(logits[torch.arange(len(images), device=images.device), targets].sum(), leaf)
    weights = maps.grid(gradient)
    weights = weights.relu() if method == "LayerCAM" else weights.mean((2, 3), keepdim=True)
    weighted = (weights * maps.grid(leaf.detach())).sum(1, keepdim=True).relu()
    return F.interpolate(weighted, images.shape[1:3], mode="bilinear", align_corners=False)[:, 0]


@torch.inference_mode()
def _occlusion(network: Network, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the drop of the target's probability (N, S, S) where a place has the image's mean colour."""
    size = images.shape[1]
    rows = torch.arange(len(images), device=images.device)
    before = network(images).softmax(1)[rows, targets]
    mean = images.float().mean((1, 2), keepdim=True).to(torch.uint8)
    edges = [round(i * size / GRID) for i in range(GRID + 1)]
    drops = torch.zeros(len(images), GRID, GRID, device=images.device)
    for y in range(GRID):
        for x in range(GRID):
            covered = images.clone()
            place = (slice(None), slice(edges[y], edges[y + 1]), slice(edges[x], edges[x + 1]))
            covered[place] = mean.expand_as(covered[place])
            drops[:, y, x] = before - network(covered).softmax(1)[rows, targets]
    return F.interpolate(drops[:, None], (size, size), mode="bilinear", align_corners=False)[:, 0]


def overlays(
    network: Network, images: np.ndarray, targets: Sequence[int], side: int = 112, quality: int = 70
) -> tuple[list[bytes], str]:
    """Return images (N, S, S, 3) uint8 under their heat maps, WebP of `side` pixels, and the method."""
    heats, method = heat_maps(network, images, targets)
    files = []
    for image, heat in zip(images, heats, strict=True):
        resized = cv2.resize(image, (side, side), interpolation=cv2.INTER_CUBIC if image.shape[0] < side else cv2.INTER_AREA)
        encoded, data = cv2.imencode(".webp", overlay(resized, heat)[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, quality])
        assert encoded
        files.append(data.tobytes())
    return files, method


def overlay(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Return an image (h, w, 3) uint8 with a heat map (S, S) from 0 to 1 over it."""
    heat = cv2.resize(heat, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    colours = cv2.applyColorMap((heat * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    return (0.45 * image + 0.55 * colours).astype(np.uint8)


def check_folder(folder: Path) -> None:
    """Raise ParamsError if a page would replace anything but an earlier page."""
    if folder.exists() and (not folder.is_dir() or any(not _is_ours(path) for path in folder.iterdir())):
        raise ParamsError(f"{folder} exists and is not an earlier page of heat maps", "name a new folder: --explain-to FOLDER")


def _is_ours(path: Path) -> bool:
    if path.name == "index.html":
        return MARK in path.read_text(encoding="utf-8", errors="replace")
    return re.fullmatch(r"\d+-[A-Za-z0-9._-]+\.png", path.name) is not None and (path.parent / "index.html").exists()


def write_page(folder: Path, model: str, method: str, count: int, items: Iterable[Item]) -> dict[str, str]:
    """Write a folder with a picture for each of `count` items, the image beside its heat map, and an index page.

    Returns the paths of the pictures by the items' paths. The folder is complete at the end, or as it was before.
    """
    check_folder(folder)
    entries: list[dict[str, Any]] = []
    pictures: dict[str, str] = {}
    with atomic.new_folder(folder) as working:
        for path, label, confidence, image, heat in items:
            scale = max(1, -(-MIN_PICTURE // image.shape[0]))
            size = (image.shape[1] * scale, image.shape[0] * scale)
            resized = cv2.resize(image, size, interpolation=cv2.INTER_NEAREST if scale > 2 else cv2.INTER_CUBIC)
            stem = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(path).stem)[:60] or "image"
            name = f"{len(entries) + 1:0{len(str(count))}}-{stem}.png"
            cv2.imwrite(str(working / name), np.concatenate([resized, overlay(resized, heat)], axis=1)[..., ::-1])
            entries.append({"path": printable(path), "label": label, "confidence": confidence, "picture": name})
            pictures[path] = str(folder / name)
        page = pages.render(
            "inference", "explained.html.j2", entries=entries, method=method, paper=METHODS[method], model=model,
            source=model, mark=MARK,
        )  # fmt: skip
        (working / "index.html").write_text(page, encoding="utf-8")
    return pictures
