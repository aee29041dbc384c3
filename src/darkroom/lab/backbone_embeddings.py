"""The embeddings of a folder's images by a frozen backbone, kept so that a second call is fast, and what an image costs."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import xxhash
from torch import nn

from darkroom.config.params import Compute
from darkroom.core import atomic, kept_results, strict_json
from darkroom.models.backbones import hub_folders
from darkroom.models.backbones import registry as backbones
from darkroom.models.base import Backbone, Normalize
from darkroom.models.checkpoint import Provenance
from darkroom.models.engine import Engine
from darkroom.models.macs import multiply_adds
from darkroom.training import embedding

CACHE = Path(".darkroom/backbones")
ROOMS = ("models", "training")  # whose code decides the embeddings
TIMED = 40  # images that are embedded one at a time
FASTER = 25  # percent: of them, since what else runs on the machine makes some slower
VALUES, FACTS = "embeddings.npy", "facts.json"


@dataclass(frozen=True)
class Embedded:
    """Embeddings (N, D) float32 of images, milliseconds for one image alone, parameters, multiply-adds, and the weights' licence
    where it is known.
    """

    values: np.ndarray
    milliseconds: float
    parameters: int
    multiply_adds: int
    license: str = ""


def place(name: str, images: np.ndarray, source: str, folder: Path, head: str, compute: Compute) -> Path:
    """Return the folder in which the embeddings of images (N, S, S, 3) uint8 by a backbone are kept.

    It is another one for other images, weights, settings or code.
    """
    digest = xxhash.xxh3_128(np.ascontiguousarray(images).data).hexdigest()
    code = {} if hub_folders.is_named(name) else backbones.options(*backbones.find(name))
    identity = kept_results.identity(
        name, images.shape, digest, source, _file_state(name, source, folder), head, compute.model_dump(), code,
        embedding.engine_identity(compute), rooms=ROOMS,
    )  # fmt: skip
    return CACHE / name.replace("/", "-") / identity


def load(folder: Path) -> Embedded | None:
    """Return what `save` wrote; None where it is missing or not whole."""
    try:
        facts = strict_json.loads((folder / FACTS).read_text(encoding="utf-8"))
        values = np.load(folder / VALUES)
        if kept_results.digest(values) != facts.pop("digest"):
            return None
        return Embedded(values, **facts)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def compute(name: str, backbone: Backbone, origin: Provenance, images: np.ndarray, settings: Compute) -> Embedded:
    """Run a frozen backbone on images (N, S, S, 3) uint8, with the fastest engine, and measure what one image costs.

    Random weights get batch-normalisation statistics of the images, as in the stage `embed`.
    """
    normalize = Normalize(origin.mean, origin.std)
    backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network: nn.Module = nn.Sequential(normalize, backbone)
    if origin.source == "random":
        embedding.calibrate(network, images, settings)
    products = multiply_adds(backbone, images.shape[1])
    engine = embedding.engine_for(network, images[None], settings)
    values = embedding.run_network(engine, images[None], f"embedding with {name}")[0][0]
    parameters = sum(parameter.numel() for parameter in backbone.parameters())
    return Embedded(values, milliseconds(engine, images), parameters, products, str(origin.details.get("license", "")))


def save(folder: Path, embedded: Embedded) -> None:
    """Keep embeddings; those of the same backbone for other images or code are removed."""
    facts = {key: value for key, value in asdict(embedded).items() if key != "values"}
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic.new_folder(folder) as working:
        np.save(working / VALUES, embedded.values)
        atomic.write_json(working / FACTS, facts | {"digest": kept_results.digest(embedded.values)})


def _file_state(name: str, source: str, folder: Path) -> list[tuple[str, int, int]]:
    """Return names, sizes and times of the files that may hold a backbone's weights."""
    if not hub_folders.is_named(name) and backbones.weights_source(name, source) != "folder":
        return []
    stem = name.removeprefix(hub_folders.PREFIX) if hub_folders.is_named(name) else backbones.find(name)[1]
    files = sorted(path for path in folder.rglob("*") if path.is_file() and stem in path.as_posix())
    return [(path.as_posix(), path.stat().st_size, path.stat().st_mtime_ns) for path in files]


def milliseconds(engine: Engine, images: np.ndarray) -> float:
    """Return the time of one image alone, the lower quartile of several, after one that is not counted."""
    seconds = []
    for start in range(min(TIMED, len(images)) + 1):
        one = np.ascontiguousarray(images[start % len(images)][None])
        began = time.perf_counter()
        next(iter(engine.stream([one])))
        seconds.append(time.perf_counter() - began)
    return 1000 * float(np.percentile(seconds[1:], FASTER))
