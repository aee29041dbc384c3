"""How many bytes a run writes: arrays, views, embeddings, weights, DVC's copies of them, and the caches."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from darkroom.config.params import Params
from darkroom.preflight import durations
from darkroom.preflight.durations import Counts
from darkroom.preflight.network_costs import of_architecture, of_backbone

THUMBNAIL = 4096  # bytes of an image in the cache of decoded images
ROW = 400  # bytes of an image in manifests, tables and predictions
REPORTS = {"ingest": 2e6, "evaluate": 2e6, "diagnose": 4e6}  # of the pages and plots
STATE = 16  # bytes of a trained parameter in what a training keeps to resume from, until `evaluate` removes it
PACKAGE = 2  # times that a registered version stores its weights, at most

StageBytes = dict[str, dict[str, float]]


def by_stage(settings: Params, counts: Counts) -> StageBytes:
    """Return the bytes by stage, and by what they are; outputs count twice where DVC's cache holds a copy, not a link."""
    side, copies = settings.ingest.image_size, 1 if _has_links() else 2
    pixels = 3.0 * side * side
    views = 1 if settings.augment.policy == "none" or settings.augment.storage == "online" else settings.augment.views
    result: StageBytes = {
        "ingest": {"arrays": copies * counts.all * (pixels + ROW), "decoded images": counts.all * (pixels + THUMBNAIL)},
        "augment": {"views": copies * views * counts.train * pixels},
    }
    baseline = settings.baseline
    own = of_architecture(baseline.architecture, side, baseline.channels, baseline.width)
    sizes = [4 * own.parameters] if own else []
    result["baseline"] = {"models": copies * sum(sizes), "states": STATE / 4 * sum(sizes)}
    images = settings.augment.views * counts.train + counts.val
    for name in settings.backbones:
        network = of_backbone(name, side)
        if network is None:
            continue
        size = 4 * network.parameters
        sizes.append(size)
        maps = durations.map_bytes(settings, name, network, images)
        is_pretrained = settings.weights.source == "pretrain"
        result |= {
            f"weights@{name}": {"models": copies * size, "states": is_pretrained * STATE * network.parameters},
            f"embed@{name}": {"models": copies * size, "embeddings": copies * 4 * network.dim * images, "feature maps": maps},
            f"transfer@{name}": {"models": copies * size},
            f"finetune@{name}": {"models": copies * size, "states": STATE * network.parameters},
        }
    result["register"] = {"models": PACKAGE * max(sizes, default=0.0)}
    for stage, size in REPORTS.items():
        result.setdefault(stage, {})["reports"] = copies * size
    return result


def by_kind(stages: StageBytes) -> dict[str, float]:
    """Return the bytes of all stages by what they are."""
    totals = Counter[str]()
    for parts in stages.values():
        totals.update(parts)  # type: ignore[arg-type]
    return {kind: size for kind, size in totals.items() if size}


def _has_links() -> bool:
    """Tell whether DVC links outputs to its cache instead of copying them."""
    for file in (Path(".dvc/config.local"), Path(".dvc/config")):
        kinds = re.search(r"^\s*type\s*=\s*(.+)$", file.read_text(errors="replace"), re.MULTILINE) if file.is_file() else None
        if kinds:
            return bool(re.search(r"hardlink|symlink", kinds[1]))
    return False
