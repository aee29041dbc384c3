"""Transfer learning against the usual recipe: the same folder, splits, weights, epochs and unfrozen blocks.

    python benchmarks/transfer.py FOLDER --weights FOLDER [--seeds 0 1 2] [--network mobilenet_v2] [--size 160]
        [--head-epochs 10] [--finetune-epochs 10] [--views 4] [--name transfer]

whole      from Enter to a fine-tuned network: `dvc repro finetune@NETWORK` in an empty workspace, against
           `python tutorial.py`
computing  the same without start-up: the stages' own work in one process, against the recipe from its first
           batch on
head       `transfer.lr` changed, then `dvc repro transfer@NETWORK`, against the recipe's head epochs
accuracy   of the fine-tuned networks (or of the heads, without fine-tuning) on the test images of all seeds
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from measuring import ROOT, Workspace, median, report, seconds

from darkroom.config.params import read
from darkroom.data import manifest
from darkroom.models.backbones.torchvision import TorchvisionBackbone
from darkroom.models.specs import BackboneSpec
from darkroom.training.freezing import first_trained

COMPUTING = """
import json, time, sys
from pathlib import Path
name, out = sys.argv[1], {}
import albumentations, cv2, onnx, onnxruntime, torch, darkroom.models.backbones.torchvision_import
from darkroom.config import dvc_graph
from darkroom.stages import augment, embed, finetune, ingest, transfer, weights
for stage in (ingest, augment, weights, embed, transfer, finetune)[: 6 if sys.argv[2] == "True" else 5]:
    short = stage.__name__.rpartition(".")[2]
    matrix = short in ("weights", "embed", "transfer", "finetune")
    options = {key: Path(value) for key, value in dvc_graph.command_options(short, name if matrix else None).items()}
    started = time.perf_counter()
    stage.run(*([name] if matrix else []), **options)
    out[short] = time.perf_counter() - started
print(json.dumps(out))
"""


def run_darkroom(scratch: Path, options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Return our wall times and test accuracy for one split."""
    place = Workspace(scratch / "ours")
    target = "finetune" if options.finetune_epochs else "transfer"
    place.recipe(
        "photos", "--data", str(options.folder), "--weights", str(options.weights) if options.weights else "random", "--set",
        f"backbones=[{options.network}]", f"ingest.image_size={options.size}", f"ingest.seed={seed}", f"compute.seed={seed}",
        f"augment.views={options.views}", f"transfer.epochs={options.head_epochs}", f"transfer.patience={options.head_epochs}",
        f"finetune.epochs={max(1, options.finetune_epochs)}", f"finetune.patience={max(1, options.finetune_epochs)}",
        "ingest.max_quarantined=1.0",
    )  # fmt: skip
    total = place.run("dvc", "repro", f"{target}@{options.network}")
    tested = accuracy(place, f"models/{target}/{options.network}")
    link_splits(place.place, options.folder, scratch / "images")
    params = place.place / "params.yaml"
    place.recipe("--set", "transfer.lr=0.0009")
    head = place.run("dvc", "repro", f"transfer@{options.network}")
    again = Workspace(scratch / "computing")
    shutil.copy(params, again.place / "params.yaml")
    again.recipe("--set", "transfer.lr=0.001")
    code = [sys.executable, "-W", "ignore", "-c", COMPUTING, options.network, str(bool(options.finetune_epochs))]
    done = subprocess.run(
        code, cwd=again.place, env=again.environment | {"DARKROOM_TRACKING": "off"}, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    stages = json.loads(done.stdout.splitlines()[-1])
    return {"whole": total, "head": head, "computing": sum(stages.values()), "stages": stages, "accuracy": tested}


def accuracy(place: Workspace, model: str) -> float:
    code = (
        "import numpy as np; from pathlib import Path; from darkroom.inference.classifier import Classifier; "
        f"c = Classifier.load(Path('{model}')); x = np.load('data/ingested/test/images.npy'); "
        "print((c.logits(x).argmax(1) == np.load('data/ingested/test/labels.npy')).mean())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=place.place, env=place.environment, capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def link_splits(place: Path, source: Path, into: Path) -> None:
    """Lay out the images as our splits have them, for ImageFolder."""
    for split, rows in manifest.read_images(place / "data/ingested/manifest.parquet").items():
        for row in rows:
            file = into / split / row.label / row.path.replace("/", "-")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.symlink_to(source.resolve() / row.path)


def run_recipe(scratch: Path, options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Return the recipe's wall times and test accuracy for the same split."""
    weights = [] if options.weights is None else ["--weights", str(next(options.weights.glob(f"{options.network}*.safetensors")))]
    recipe = str(ROOT / "benchmarks/tutorial.py")
    command = [
        sys.executable, "-W", "ignore", recipe, str(scratch / "images"), "--network", options.network, *weights,
        "--size", str(options.size), "--head-epochs", str(options.head_epochs), "--finetune-epochs", str(options.finetune_epochs),
        "--seed", str(seed), "--trained", *trained_modules(options.network),
    ]  # fmt: skip
    done: list[str] = []
    total = seconds(lambda: done.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    return json.loads(done[0]) | {"whole": total}


def trained_modules(network: str) -> list[str]:
    """Return the names of torchvision's modules that make up the blocks which recipe `photos` unfreezes."""
    backbone = TorchvisionBackbone(BackboneSpec(network, 96))
    names = {id(module): name for name, module in backbone.net.named_modules()}
    cut = first_trained(backbone, read(ROOT / "params.yaml").finetune.unfreeze)
    return [names[id(module)] for index in range(cut, backbone.block_count) for module in backbone.block(index)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", type=Path, help="a folder of weights; without one they are random")
    parser.add_argument("--network", default="mobilenet_v2")
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--head-epochs", type=int, default=10)
    parser.add_argument("--finetune-epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--name", default="transfer", help="of the JSON under reports/bench")
    options = parser.parse_args()
    options.folder = options.folder.resolve()
    options.weights = options.weights.resolve() if options.weights else None
    rounds = []
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as scratch:
            mine = run_darkroom(Path(scratch), options, seed)
            recipe = run_recipe(Path(scratch), options, seed)
        print(f"seed {seed}: whole {mine['whole']:.1f} s against {recipe['whole']:.1f} s, test accuracy "
              f"{mine['accuracy']:.4f} against {recipe['accuracy']:.4f}", file=sys.stderr, flush=True)  # fmt: skip
        rounds.append((mine, recipe))
    tested = sum(recipe["tested"] for _, recipe in rounds)
    pooled = [sum(part[i]["accuracy"] * part[1]["tested"] for part in rounds) / tested for i in (0, 1)]
    rows = []
    for task, mine, recipe in (
        ("whole", "whole", "whole"),
        ("computing", "computing", "seconds"),
        ("changed head", "head", "head_seconds"),
    ):
        pair = [(part[0][mine], part[1][recipe]) for part in rounds]
        rows.append({
            "task": task, "darkroom s": median([a for a, _ in pair]), "recipe s": median([b for _, b in pair]),
            "ratio": median([b / a for a, b in pair]), "ratios": " ".join(f"{b / a:.1f}" for a, b in pair),
        })  # fmt: skip
    rows.append(
        {"task": f"accuracy on {tested} test images", "darkroom s": pooled[0], "recipe s": pooled[1], "ratio": "", "ratios": ""}
    )
    report(options.name, rows, {"options": vars(options), "rounds": rounds})


if __name__ == "__main__":
    main()
