"""The most memory that each stage takes, without the files that it maps: libraries, a share for each image, and its networks.

Arrays of images and embeddings are mapped from files, and larger ones that are computed lie in files without a name
(`core/large_arrays.py`): the system takes their pages back when it needs the room. What grows are rows of tables. A
training step holds the outputs of all layers, their gradients, and three numbers for each parameter. The constants are
fitted to measured stages (docs/data.md, "Each stage").
"""

from __future__ import annotations

from darkroom.config.params import Params
from darkroom.preflight.durations import Counts
from darkroom.preflight.network_costs import NetworkCost, of_architecture, of_backbone

MIB = 2**20
LIBRARIES = {  # MiB that a stage takes for a handful of tiny images, without its networks
    "names": 27, "fetch": 45, "ingest": 82, "augment": 75, "baseline": 350, "weights": 330, "embed": 390, "transfer": 320,
    "finetune": 340, "cross_validate": 52, "evaluate": 430, "register": 450, "diagnose": 490,
}  # fmt: skip
VIEWS = 120  # MiB that `augment` takes beyond that to make views
ROWS = {"ingest": 10_000, "transfer": 4_000, "evaluate": 10_000, "diagnose": 8_000, "cross_validate": 4_000}  # bytes an image
STATE = 4  # numbers for each parameter that is trained: itself, its gradient, two moments
KEPT = 2.0  # times that a step holds the outputs of the layers: themselves and their gradients
EVALUATED = (32, 0.3)  # images at a time when models are compared, and the share of their outputs that is held at once


def peaks(settings: Params, counts: Counts) -> dict[str, float]:
    """Return the bytes of each stage, by its name in dvc.yaml."""
    side, baseline = settings.ingest.image_size, settings.baseline
    own = of_architecture(baseline.architecture, side, baseline.channels, baseline.width)
    networks = {name: network for name in settings.backbones if (network := of_backbone(name, side))}

    def base(stage: str) -> float:
        return LIBRARIES[stage] * MIB + ROWS.get(stage, 0) * counts.all

    result = {"names": base("names")} | {f"fetch@{name}": base("fetch") for name in settings.fetch.datasets}
    result |= {"ingest": base("ingest"), "augment": base("augment")}
    if settings.augment.policy != "none" and settings.augment.storage != "online":
        result["augment"] += VIEWS * MIB
    result["baseline"] = base("baseline") + _step(own, 0, baseline.batch_size)
    for name, network in networks.items():
        cut = network.first_trained(settings.finetune.unfreeze)
        result |= {
            f"weights@{name}": base("weights") + 8 * network.parameters,
            f"embed@{name}": base("embed") + 12 * network.parameters,
            f"transfer@{name}": base("transfer") + 8 * network.parameters,
            f"finetune@{name}": base("finetune") + _step(network, cut, settings.finetune.batch_size),
        }
        if settings.weights.source == "pretrain":
            result[f"weights@{name}"] += _step(network, 0, settings.weights.pretrain_batch_size)
    result["cross_validate"] = base("cross_validate")
    if settings.cross_validation:
        trained = [size for stage, size in result.items() if stage.startswith(("baseline", "transfer@", "finetune@", "embed@"))]
        result["cross_validate"] = max(trained) + ROWS["cross_validate"] * counts.all
    models = [*networks.values(), *([own] if own else [])]
    images, share = EVALUATED
    largest = max((5 * model.parameters + 4 * images * share * model.part().outputs for model in models), default=0.0)
    for stage in ("evaluate", "register", "diagnose"):
        result[stage] = base(stage) + largest
    return result


def _step(network: NetworkCost | None, first: int, batch: int) -> float:
    """Return the bytes of a training step of the blocks from `first` on."""
    if network is None:
        return 0.0
    return 4 * STATE * network.parameters + 4 * KEPT * batch * network.part(first).outputs
