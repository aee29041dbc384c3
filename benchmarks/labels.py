"""How many wrong labels `evaluate` finds: labels of a workspace's images are flipped, and its candidates are counted.

    python benchmarks/labels.py WORKSPACE [--model transfer/vgg11_bn] [--share 0.05] [--seeds 3]

The workspace has run `dvc repro`. Without a model candidates are found by pixels. Labels that are wrong in the data themselves
count against the precision.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from darkroom.data import arrays
from darkroom.evaluation import label_issues, pixel_baseline
from darkroom.inference.classifier import Classifier

SPLITS = ("train", "val", "test")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    ingested = given.workspace / "data" / "ingested"
    splits = [arrays.load_split(ingested / name) for name in SPLITS]
    images, labels = (np.concatenate(parts) for parts in zip(*splits, strict=True))
    known = pq.ParquetFile(ingested / "manifest.parquet").read().to_pylist()
    rows = [row for name in SPLITS for row in known if row["status"] == "accepted" and row["split"] == name]
    model = Classifier.load(given.workspace / "models" / given.model) if given.model else None
    inputs = model.answers(images)[0] if model else pixel_baseline.thumbnails(images)
    classes = arrays.load_classes(ingested / "classes.json")

    def candidates(wrong: np.ndarray) -> list[dict]:
        c, said = label_issues.out_of_fold(inputs, wrong, [row["group"] for row in rows], len(classes), 0)
        print(f"c {c}, accuracy out of fold {(said.argmax(1) == labels).mean():.3f}", flush=True)
        return label_issues.issues(said, wrong, rows, classes)

    print(f"{len(candidates(labels))} candidates among {len(labels)} images as they are")
    found = []
    for seed in range(1, given.seeds + 1):
        rng = np.random.default_rng(seed)
        flipped = rng.permutation(len(labels))[: round(given.share * len(labels))]
        wrong = labels.copy()
        wrong[flipped] = (labels[flipped] + rng.integers(1, len(classes), len(flipped))) % len(classes)
        truth = {rows[i]["path"]: classes[labels[i]] for i in flipped.tolist()}
        made = candidates(wrong)
        hits = [row for row in made if row["path"] in truth]
        first = [row for row in made[: len(flipped)] if row["path"] in truth]
        found.append({
            "seed": seed, "flipped": len(flipped), "candidates": len(made), "recall": len(hits) / len(flipped),
            "precision": len(hits) / max(len(made), 1), "precision_of_first": len(first) / max(min(len(made), len(flipped)), 1),
            "suggested_right": sum(row["suggested"] == truth[row["path"]] for row in hits) / max(len(hits), 1),
        })  # fmt: skip
        print(json.dumps(found[-1]), flush=True)
    print({key: round(float(np.mean([row[key] for row in found])), 3) for key in found[0]})


if __name__ == "__main__":
    main()
