"""Measure what the map of the report costs: `.venv/bin/python benchmarks/embedding_map.py [IMAGES…]`.

For each number of test images, seconds of one core for: the logits of a network (mobilenet_v2 of random weights, images of 96
pixels), its embeddings of the images on the map, the map, and the bytes that it adds to the page. Load of other programs hardly
matters.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from darkroom.evaluation import embedding_map, robustness
from darkroom.inference.classifier import Classifier
from darkroom.models import factory
from darkroom.models.base import Network, Preprocessing
from darkroom.models.checkpoint import Checkpoint
from darkroom.models.specs import BackboneSpec

SIDE, CLASSES, BATCH = 96, 5, 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="*", type=int, default=[200, 1000, 5000])
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    classifier = network()
    print("images   logits   embeddings   map   images on it   bytes")
    for count in parser.parse_args().images:
        images = rng.integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)
        mapped = robustness.sample(count, embedding_map.MOST, 0)
        classifier.logits(images[:BATCH], BATCH)
        logits, _ = measured(lambda images=images: classifier.logits(images, BATCH))
        passed, (embeddings, _) = measured(lambda chosen=images[mapped]: classifier.embed(chosen, BATCH))
        embeddings = embeddings + 3 * rng.normal(size=(CLASSES, embeddings.shape[1])).astype(np.float32)[mapped % CLASSES]
        seconds, placed = measured(lambda mapped=mapped, embeddings=embeddings: embedding_map.project(mapped, embeddings))
        size = len(json.dumps([mapped.tolist(), placed.places.tolist()], separators=(",", ":")))
        print(f"{count:6} {logits:8.2f} {passed:12.2f} {seconds:5.2f} {len(mapped):14} {size:7}", flush=True)


def network() -> Classifier:
    preprocessing = Preprocessing(SIDE, "crop", (0, 0, 0), (0.5,) * 3, (0.25,) * 3)
    spec = BackboneSpec("mobilenet_v2", SIDE)
    built = Network(factory.build_features(spec), preprocessing, CLASSES)
    return Classifier(built, Checkpoint("transfer/mobilenet_v2", spec, preprocessing, tuple("abcde"), {}, {}))


def measured(compute: Callable[[], Any]) -> tuple[float, Any]:
    """Return the processor time of a computation, and its result."""
    started = time.process_time()
    result = compute()
    return time.process_time() - started, result


if __name__ == "__main__":
    main()
