"""How many bytes a run writes: arrays, views, embeddings, weights, DVC's copies of them, and the caches."""

from __future__ import annotations

import re
from pathlib import Path

from darkroom.config.params import Params
from darkroom.preflight import durations
from darkroom.preflight.durations import Counts
from darkroom.preflight.network_costs import of_architecture, of_backbone

THUMBNAIL = 4096  # bytes of an image in the cache of decoded images
ROW = 400  # bytes of an image in manifests, tables and predictions
REPORTS = 8e6  # of the pages and plots
PACKAGE = 2  # times that a registered version stores its weights, at most


def written(settings: Params, counts: Counts) -> dict[str, float]:
    """Return the bytes by what they are; outputs count twice where DVC's cache holds a copy, not a link."""
    side, copies = settings.ingest.image_size, 1 if _has_links() else 2
    pixels = 3.0 * side * side
    views = 1 if settings.augment.policy == "none" or settings.augment.storage == "online" else settings.augment.views
    result = {
        "arrays": copies * counts.all * (pixels + ROW),
        "views": copies * views * counts.train * pixels,
        "decoded images": counts.all * (pixels + THUMBNAIL),
    }
    baseline = settings.baseline
    own = of_architecture(baseline.architecture, side, baseline.channels, baseline.width)
    sizes = [4 * own.parameters] if own else []
    seen = settings.augment.views * counts.train + counts.val
    embeddings = maps = weights = 0.0
    for name in settings.backbones:
        network = of_backbone(name, side)
        if network is None:
            continue
        size = 4 * network.parameters
        weights += 2 * size  # models/weights and data/embedded
        sizes += [size, size]
        embeddings += 4 * network.dim * seen
        maps += durations.map_bytes(settings, name, network, seen)
    result |= {
        "embeddings": copies * embeddings,
        "models": copies * (weights + sum(sizes)) + PACKAGE * max(sizes, default=0.0),
        "feature maps": maps,
        "reports": copies * REPORTS,
    }
    return {name: size for name, size in result.items() if size}


def _has_links() -> bool:
    """Tell whether DVC links outputs to its cache instead of copying them."""
    for file in (Path(".dvc/config.local"), Path(".dvc/config")):
        kinds = re.search(r"^\s*type\s*=\s*(.+)$", file.read_text(errors="replace"), re.MULTILINE) if file.is_file() else None
        if kinds:
            return bool(re.search(r"hardlink|symlink", kinds[1]))
    return False
