"""What every peer's script shares: its options, its clock and the JSON that benchmarks/accuracy.py reads.

    ENVIRONMENT/bin/python benchmarks/peers/NAME.py FOLDER --weights FILE --size 160 --seed 0 --out FILE.json [--set KEY=VALUE …]

FOLDER has train, val and test with a folder for each class. The peer's `fit` is what its user would write, and all that
is counted as such; loading the weights from a file in place of a download is not in it. The file runs in the peer's own
environment: it imports nothing of Darkroom.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

Predict = Callable[[str], tuple[list[str], np.ndarray]]
"""From a split to the paths of its images and their probabilities (N, C), classes in the order of their names."""


def run(fit: Callable[..., Predict], settings: Mapping[str, Any], libraries: tuple[str, ...]) -> None:
    """Train by `fit(folder, weights, size, seed, **settings)` and write what it predicts for val and test.

    The JSON has for each split the paths, relative to its folder, and the probabilities; the seconds of `fit` alone, without
    start-up and predictions; the settings; and the versions of the libraries.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", type=Path, required=True, help="torchvision's state_dict of MobileNetV2, safetensors")
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings in place of the script's own")
    options = parser.parse_args()
    changed = dict(item.split("=", 1) for item in options.set)
    used = {key: type(value)(json.loads(changed.pop(key))) if key in changed else value for key, value in settings.items()}
    if changed:
        parser.error(f"unknown setting {', '.join(changed)}; there are {', '.join(settings)}")
    started = time.perf_counter()
    predict = fit(options.folder, options.weights, options.size, options.seed, **used)
    seconds = time.perf_counter() - started
    content: dict[str, Any] = {"seconds": seconds, "settings": used, "versions": {name: version(name) for name in libraries}}
    for split in ("val", "test"):
        paths, probabilities = predict(split)
        content[split] = {
            "paths": [Path(path).relative_to(options.folder / split).as_posix() for path in paths],
            "probabilities": np.asarray(probabilities, np.float64).round(6).tolist(),
        }
    options.out.write_text(json.dumps(content) + "\n")
