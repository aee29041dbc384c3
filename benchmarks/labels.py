"""Measure how many wrong labels `evaluate` finds: labels of a workspace's images are flipped, and its candidates are counted.

    python benchmarks/labels.py WORKSPACE [--model transfer/vgg11_bn] [--share 0.05] [--images 300] [--seeds 10]
    python benchmarks/labels.py WORKSPACE --backbone mobilenet_v2 --weights FOLDER

`darkroom ingest` has run in the workspace, `dvc repro` for --model. Without a model or a backbone the inputs are pixels. Each
seed draws the images and the flips; the candidates of the same images with their own labels are counted as well. Labels that
are wrong in the data themselves count against the precision.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from darkroom.data import arrays, manifest
from darkroom.evaluation import label_issues, pixel_baseline
from darkroom.inference.classifier import Classifier
from darkroom.models import weight_files, weights
from darkroom.models.backbones.torchvision import TorchvisionBackbone
from darkroom.models.base import Normalize
from darkroom.models.specs import BackboneSpec

FIRST = 10
BATCH = 64
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--backbone")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--images", type=int, help="a random part of the images, another one for each seed")
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    ingested = options.workspace / "data" / "ingested"
    rows_of = manifest.read_images(ingested / "manifest.parquet")
    images, labels = (
        np.concatenate(parts) for parts in zip(*(arrays.load_split(ingested / split) for split in rows_of), strict=True)
    )
    rows = [asdict(row) for split_rows in rows_of.values() for row in split_rows]
    classes = arrays.load_classes(ingested / "classes.json")
    inputs = embed(images, options.workspace, options.model, options.backbone, options.weights)
    results = []
    for seed in range(1, options.seeds + 1):
        rng = np.random.default_rng(seed)
        chosen = np.sort(rng.permutation(len(labels))[: options.images])
        own, chosen_rows = labels[chosen], [rows[i] for i in chosen.tolist()]
        flipped = rng.permutation(len(own))[: round(options.share * len(own))]
        wrong = own.copy()
        wrong[flipped] = (own[flipped] + rng.integers(1, len(classes), len(flipped))) % len(classes)
        truth = {chosen_rows[i]["path"]: classes[own[i]] for i in flipped.tolist()}
        clean = judge(inputs[chosen], own, chosen_rows, classes, {})
        results.append({
            "seed": seed, "images": len(own), "flipped": len(flipped), **judge(inputs[chosen], wrong, chosen_rows, classes, truth),
            "clean_candidates": clean["candidates"], "clean_expected": clean["expected"],
        })  # fmt: skip
        print(json.dumps(results[-1]), flush=True)
    print({key: round(float(np.nanmean([row[key] for row in results])), 3) for key in results[0]})


def embed(images: np.ndarray, workspace: Path, model: str | None, backbone: str | None, folder: Path | None) -> np.ndarray:
    """Return inputs (N, D) float32: embeddings by a model of the workspace or a backbone with weights of a folder, or pixels."""
    if model:
        return Classifier.load(workspace / "models" / model).embed(images)[0]
    if not backbone:
        return pixel_baseline.thumbnails(images)
    network = TorchvisionBackbone(BackboneSpec(backbone, images.shape[1]), 0)
    file = weight_files.find(folder or workspace / "models" / "weights", backbone)
    weights.fill(network, weights.read(file), str(file))
    frozen = nn.Sequential(Normalize(MEAN, STD), network).eval()
    with torch.inference_mode():
        batches = (np.ascontiguousarray(images[i : i + BATCH]) for i in range(0, len(images), BATCH))
        return np.concatenate([frozen(torch.from_numpy(batch)).numpy() for batch in batches])


def judge(
    inputs: np.ndarray, labels: np.ndarray, rows: list[dict[str, Any]], classes: tuple[str, ...], truth: dict[str, str]
) -> dict[str, float]:
    """Return the figures of the candidates, `truth` being the classes of flipped images by path; NaN without candidates."""
    began = time.process_time()
    c, probabilities = label_issues.out_of_fold(inputs, labels, [row["group"] for row in rows], len(classes), 0)
    issues, noise = label_issues.find(probabilities, labels, rows, classes)
    seconds = time.process_time() - began
    hits = [issue for issue in issues if issue.path in truth]

    def precision(count: int) -> float:
        return sum(issue.path in truth for issue in issues[:count]) / count if len(issues) >= count else float("nan")

    return {
        "c": c, "wrong_share": noise.share, "candidates": len(issues), "expected": sum(issue.error_probability for issue in issues),
        "flipped_candidates": len(hits), "recall": len(hits) / max(len(truth), 1), "precision": precision(len(issues) or 1),
        "expected_precision": label_issues.expected_precision(issues) or float("nan"), "precision_at_10": precision(FIRST),
        "expected_precision_at_10": label_issues.expected_precision(issues[:FIRST]) or float("nan"),
        "suggestion_correct": sum(issue.suggested == truth[issue.path] for issue in hits) / max(len(hits), 1),
        "seconds": round(seconds, 2),
    }  # fmt: skip


if __name__ == "__main__":
    main()
