"""Where a network looks: heat maps over images, and a page that shows them.

LayerCAM (Jiang et al. 2021) where the network is a chain of feature maps, on the deepest map that still has places to tell
apart; occlusion (Zeiler and Fergus 2014) for transformers and perceptrons: what lowers the probability when it is covered.
Grad-CAM (Selvaraju et al. 2017), on the last map, is there for comparison, for all but perceptrons, which have no maps.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from darkroom.core import atomic, pages
from darkroom.core.errors import ParamsError, printable
from darkroom.models.base import Network, chain_of
from darkroom.models.feature_maps import Maps, maps_of

PLACES = 7  # a side, at least, of the map that is looked at, where the network has one of that size
GRID = 8  # places a side that are covered one after the other
SHOWN = 224  # pixels a side of a picture, at least
AT_ONCE = 16
MARK = "darkroom: heat maps"  # in every page, so that it is known again
METHODS = {"LayerCAM": "Jiang et al. 2021", "Grad-CAM": "Selvaraju et al. 2017", "occlusion": "Zeiler and Fergus 2014"}


def heat(network: Network, images: np.ndarray, targets: Sequence[int], method: str = "") -> tuple[np.ndarray, str]:
    """Return for each image how much each pixel speaks for its target class, (N, S, S) float32 from 0 to 1, and the method.

    `images` (N, S, S, 3) uint8. All zero where nothing speaks for the class. `method` is one of `METHODS`, and chosen by the
    architecture where it is not given; a perceptron is explained by occlusion whatever is asked for.
    """
    maps = maps_of(network.features)
    method = method or ("occlusion" if chain_of(network.features) is None else "LayerCAM")
    method = "occlusion" if maps is None else method
    made = []
    for start in range(0, len(images), AT_ONCE):
        some = torch.from_numpy(np.ascontiguousarray(images[start : start + AT_ONCE]))
        wanted = torch.tensor(list(targets[start : start + AT_ONCE]))
        if maps is None or method == "occlusion":
            made.append(_occlusion(network, some, wanted))
        else:
            made.append(_activation(network, maps, some, wanted, method))
    found = torch.cat(made).clamp(min=0)
    largest = found.amax((1, 2), keepdim=True)
    return (found / torch.where(largest > 0, largest, 1)).numpy(), method


def _activation(network: Network, maps: Maps, images: torch.Tensor, targets: torch.Tensor, method: str) -> torch.Tensor:
    """Return the maps (N, S, S) of a class activation method: feature maps, weighted by the gradient of the class's logit."""
    with torch.no_grad():
        x, passed = network.normalize(images), []
        for step in maps.steps:
            x = step(x.clone())  # steps may work in place
            passed.append(x)
    sizes = [min(maps.grid(x).shape[2:]) for x in passed]
    places = PLACES if method == "LayerCAM" else 2
    looked_at = max(index for index, size in enumerate(sizes) if size >= min(places, max(sizes)))
    leaf = passed[looked_at].detach().requires_grad_()
    with torch.enable_grad():
        x = leaf.clone()
        for step in maps.steps[looked_at + 1 :]:
            x = step(x)
        logits = network.head(maps.tail(x))
        (gradient,) = torch.autograd.grad(logits[torch.arange(len(images)), targets].sum(), leaf)
    weights = maps.grid(gradient)
    weights = weights.relu() if method == "LayerCAM" else weights.mean((2, 3), keepdim=True)
    weighted = (weights * maps.grid(leaf.detach())).sum(1, keepdim=True).relu()
    return F.interpolate(weighted, images.shape[1:3], mode="bilinear", align_corners=False)[:, 0]


@torch.inference_mode()
def _occlusion(network: Network, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    size = images.shape[1]
    rows = torch.arange(len(images))
    before = network(images).softmax(1)[rows, targets]
    grey = images.float().mean((1, 2), keepdim=True).to(torch.uint8)
    edges = [round(i * size / GRID) for i in range(GRID + 1)]
    drops = torch.zeros(len(images), GRID, GRID)
    for y in range(GRID):
        for x in range(GRID):
            covered = images.clone()
            place = (slice(None), slice(edges[y], edges[y + 1]), slice(edges[x], edges[x + 1]))
            covered[place] = grey.expand_as(covered[place])
            drops[:, y, x] = before - network(covered).softmax(1)[rows, targets]
    return F.interpolate(drops[:, None], (size, size), mode="bilinear", align_corners=False)[:, 0]


def overlays(
    network: Network, images: np.ndarray, targets: Sequence[int], side: int = 112, quality: int = 70
) -> tuple[list[bytes], str]:
    """Return for each image (N, S, S, 3) uint8 a WebP of `side` pixels with the heat over it, and the method."""
    import cv2

    heats, method = heat(network, images, targets)
    made = []
    for image, warm in zip(images, heats, strict=True):
        given = cv2.resize(image, (side, side), interpolation=cv2.INTER_CUBIC if image.shape[0] < side else cv2.INTER_AREA)
        written, data = cv2.imencode(".webp", _painted(given, warm)[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, quality])
        assert written
        made.append(data.tobytes())
    return made, method


def _painted(image: np.ndarray, warm: np.ndarray) -> np.ndarray:
    """Return an image (h, w, 3) uint8 with heat (S, S) from 0 to 1 over it."""
    import cv2

    heat = cv2.resize(warm, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    colours = cv2.applyColorMap((heat * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    return (0.45 * image + 0.55 * colours).astype(np.uint8)


def check(folder: Path) -> None:
    """Refuse a place for a page that holds anything but an earlier page: that one will be replaced."""
    if not folder.exists():
        return
    if not folder.is_dir() or any(not _is_ours(path) for path in folder.iterdir()):
        raise ParamsError(f"{folder} is there, and is not an earlier page of heat maps", "name a new folder: --explain-to FOLDER")


def _is_ours(path: Path) -> bool:
    if path.name == "index.html":
        return MARK in path.read_text(encoding="utf-8", errors="replace")
    return re.fullmatch(r"\d+-[A-Za-z0-9._-]+\.png", path.name) is not None and (path.parent / "index.html").exists()


class Page:
    """A page of heat maps in the making: a picture per image, what the network was given beside what it looked at, and an index.

    The folder is there whole at the end, or as it was before. Use as a context manager.
    """

    def __init__(self, folder: Path, count: int, model: str) -> None:
        self.folder, self.model, self.digits = folder, model, len(str(count))
        self.shown: list[dict[str, Any]] = []
        self.method = ""

    def __enter__(self) -> Page:
        check(self.folder)
        self.stack = ExitStack()
        self.working = self.stack.enter_context(atomic.new_folder(self.folder))
        return self

    def __exit__(self, *error: Any) -> None:
        if error[0] is None:
            page = pages.render(
                "prediction", "explained.html.j2", shown=self.shown, method=self.method, paper=METHODS[self.method],
                model=self.model, source=self.model, mark=MARK,
            )  # fmt: skip
            (self.working / "index.html").write_text(page, encoding="utf-8")
        self.stack.__exit__(*error)

    def add(self, rows: list[dict[str, Any]], images: np.ndarray, heats: np.ndarray, method: str) -> None:
        """Add images with their heat maps; `rows` have `path`, `label` and `confidence`, and get `explanation`, a path."""
        import cv2

        self.method = method
        for row, image, shown in zip(rows, images, heats, strict=True):
            scale = max(1, -(-SHOWN // image.shape[0]))
            size = (image.shape[1] * scale, image.shape[0] * scale)
            given = cv2.resize(image, size, interpolation=cv2.INTER_NEAREST if scale > 2 else cv2.INTER_CUBIC)
            seen = _painted(given, shown)
            stem = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(row["path"]).stem)[:60] or "image"
            name = f"{len(self.shown) + 1:0{self.digits}}-{stem}.png"
            cv2.imwrite(str(self.working / name), np.concatenate([given, seen], axis=1)[..., ::-1])
            row["explanation"] = str(self.folder / name)
            self.shown.append({**row, "path": printable(row["path"]), "picture": name})
