"""Measure how many wrong labels `evaluate` finds: labels of a workspace's images are flipped, and its issues are counted.

    python benchmarks/labels.py WORKSPACE [--model transfer/vgg11_bn] [--share 0.05] [--seeds 3]

`dvc repro` has run in the workspace. Without a model the inputs are pixels. Labels that are wrong in the data themselves count
against the precision.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from darkroom.data import arrays, manifest
from darkroom.evaluation import label_issues, pixel_baseline
from darkroom.evaluation.label_issues import LabelIssue
from darkroom.inference.classifier import Classifier


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    ingested = options.workspace / "data" / "ingested"
    rows_of = manifest.read_images(ingested / "manifest.parquet")
    images, labels = (
        np.concatenate(parts) for parts in zip(*(arrays.load_split(ingested / split) for split in rows_of), strict=True)
    )
    rows = [asdict(row) for split_rows in rows_of.values() for row in split_rows]
    model = Classifier.load(options.workspace / "models" / options.model) if options.model else None
    inputs = model.embed(images)[0] if model else pixel_baseline.thumbnails(images)
    classes = arrays.load_classes(ingested / "classes.json")

    def issues_of(judged: np.ndarray) -> list[LabelIssue]:
        c, probabilities = label_issues.out_of_fold(inputs, judged, [row["group"] for row in rows], len(classes), 0)
        print(f"c {c}, accuracy out of fold {(probabilities.argmax(1) == labels).mean():.3f}", flush=True)
        return label_issues.find(probabilities, judged, rows, classes)

    print(f"{len(issues_of(labels))} issues among {len(labels)} images with their own labels")
    results = []
    for seed in range(1, options.seeds + 1):
        rng = np.random.default_rng(seed)
        flipped = rng.permutation(len(labels))[: round(options.share * len(labels))]
        wrong = labels.copy()
        wrong[flipped] = (labels[flipped] + rng.integers(1, len(classes), len(flipped))) % len(classes)
        truth = {rows[i]["path"]: classes[labels[i]] for i in flipped.tolist()}
        issues = issues_of(wrong)
        hits = [issue for issue in issues if issue.path in truth]
        first = [issue for issue in issues[: len(flipped)] if issue.path in truth]
        results.append({
            "seed": seed, "flipped": len(flipped), "issues": len(issues), "recall": len(hits) / len(flipped),
            "precision": len(hits) / max(len(issues), 1),
            "precision_of_first": len(first) / max(min(len(issues), len(flipped)), 1),
            "suggestion_correct": sum(issue.suggested == truth[issue.path] for issue in hits) / max(len(hits), 1),
        })  # fmt: skip
        print(json.dumps(results[-1]), flush=True)
    print({key: round(float(np.mean([row[key] for row in results])), 3) for key in results[0]})


if __name__ == "__main__":
    main()
