"""What `darkroom tune` gains by backbones whose weights are at hand, and by larger images: heads, on several folders and splits.

    python benchmarks/tune_backbones.py FOLDER… --weights WEIGHTS [--backbones mobilenet_v2 timm/efficientnet_lite0] [--seeds 0 1]
        [--sizes 224] [--trials 8] [--views 3] [--results RESULTS]

The first of the backbones is that of params.yaml. For each split the search of `tune --only heads` is run on training and
validation images, and the head of its choice is trained and measured on the test images as `transfer` does it. All images of
a folder are embedded once for all splits. `--results` is where benchmarks/accuracy.py keeps its runs: there are the predictions
for the same test images of what the recipe trains by itself, the better of its head and its fine-tuned network by validation.

recipe, always, gained, default
        accuracy on test of the recipe's head; of the best trial, as `--write always` writes it; of what `--write` leaves, which is
        the best trial where a gain is claimed, and else the recipe's head; and of what the recipe trains by itself
cpu     minutes of processor time of the search; `embedding` has that of embedding, for all splits

The last rows have the mean over folders of the differences, in points, with the 95% interval of a bootstrap over images.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import yaml
from measuring import ROOT, report

from darkroom.config import params, recipes
from darkroom.data import arrays, manifest, resized_images, seen_images
from darkroom.stages import ingest, transfer
from darkroom.training.batches import Examples
from darkroom.tuning.heads import Embedded, Pool
from darkroom.tuning.search import Search
from darkroom.tuning.space import BACKBONE, SIZE, VIEWS, hyper_of
from darkroom.tuning.trials import Trial

PARAMS, INGESTED = Path("params.yaml"), Path("ingested")
SPLITS = ("train", "val", "test")
COMPARED = (("always", "recipe"), ("gained", "recipe"), ("always", "default"), ("gained", "default"), ("recipe", "default"))


@dataclass(frozen=True)
class Folder:
    """All images of a folder, with their embeddings by backbone and size, and the row of each path."""

    name: str
    folder: Path
    pool: Pool
    embedded: Mapping[tuple[str, int], Embedded]
    rows: Mapping[str, int]


def ingest_folder(folder: Path, options: argparse.Namespace, seed: int, out: Path) -> None:
    """Write params.yaml in the current folder, as recipe `photos` for a folder of images, and ingest with a seed."""
    settings = [
        f"backbones=[{options.backbones[0]}]", f"ingest.image_size={options.size}", f"augment.views={options.views}",
        f"ingest.seed={seed}", f"compute.seed={seed}", "ingest.max_quarantined=1.0",
    ]  # fmt: skip
    content = params.read_yaml(ROOT / "params.yaml")
    for key, value in recipes.requested_values("photos", str(folder), str(options.weights), settings).items():
        section, _, name = key.partition(".")
        content = {**content, section: {**content[section], name: value} if name else value}
    PARAMS.write_text(yaml.safe_dump(content), encoding="utf-8")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        ingest.run(out, out.with_suffix(".html"), Path("label_fixes.csv"))


def embed(folder: Path, options: argparse.Namespace) -> Folder:
    """Embed all images of a folder, those of every split, with all backbones at all sizes."""
    ingest_folder(folder, options, 0, INGESTED)
    settings = params.read()
    by_split = manifest.read_images(INGESTED / "manifest.parquet")
    images, labels = (np.concatenate(parts) for parts in zip(*(arrays.load_split(INGESTED / name) for name in SPLITS), strict=True))
    groups = np.array([row.group for name in SPLITS for row in by_split[name]])
    pool = Pool(images, labels, groups, len(arrays.load_classes(INGESTED / "classes.json")), settings)
    embedded: dict[tuple[str, int], Embedded] = {}
    for size in (options.size, *options.sizes):
        with mock.patch.object(seen_images, "LEARNT", SPLITS):
            shown = images if size == options.size else resized_images.load(INGESTED, settings.ingest, size, 0)
        at_size = pool.at(shown, settings.augment.policy)
        for name in options.backbones:
            embedded[name, size] = at_size.embed(name, "package", options.weights)
    rows = {row.path: number for number, row in enumerate(row for split in SPLITS for row in by_split[split])}
    return Folder(folder.parent.name if folder.name == "source" else folder.name, folder, pool, embedded, rows)


def search_split(whole: Folder, options: argparse.Namespace, seed: int) -> tuple[dict[str, Any], dict[str, dict[str, bool]]]:
    """Search on one split; return a row, and for each model whether it is right about each test image by path."""
    ingest_folder(whole.folder, options, seed, Path("split"))
    by_split = manifest.read_images(Path("split/manifest.parquet"))
    rows = {name: np.array([whole.rows[row.path] for row in by_split[name]]) for name in SPLITS}
    seen, train = np.concatenate([rows["train"], rows["val"]]), len(rows["train"])
    groups = np.array([row.group for name in SPLITS[:2] for row in by_split[name]])
    pool = replace(
        whole.pool, images=whole.pool.images[seen], labels=whole.pool.labels[seen], groups=groups, settings=params.read(),
        val_share=len(rows["val"]) / len(seen), is_kept=False,
    )  # fmt: skip
    parts = {key: replace(item, images=item.images[seen], views=item.views[:, seen]) for key, item in whole.embedded.items()}
    used = time.process_time()
    search = Search(pool, {name: parts[name, options.size] for name in options.backbones}, options.backbones, seed)
    search.run(lambda trials: len(trials) >= options.trials, resize=lambda name, size: parts.get((name, size)))
    gain, minutes = search.gain(), (time.process_time() - used) / 60

    def is_right(trial: Trial) -> dict[str, bool]:
        key = (trial.values[BACKBONE], trial.values[SIZE])
        views = np.ascontiguousarray(parts[key].views[: trial.values[VIEWS], :train])
        settings = pool.settings.model_copy(update={"transfer": hyper_of(trial.values, pool.settings)})
        val = Examples(parts[key].images[None, train:], pool.labels[train:])
        with contextlib.redirect_stderr(io.StringIO()):
            head, _ = transfer.train_head(Examples(views, pool.labels[:train]), val, pool.classes, settings, "head")
        with torch.inference_mode():
            predicted = head(torch.from_numpy(whole.embedded[key].images[rows["test"]])).argmax(1).numpy()
        right = predicted == whole.pool.labels[rows["test"]]
        return {row.path: bool(correct) for row, correct in zip(by_split["test"], right, strict=True)}

    best, own = is_right(search.best()), is_right(search.reference())
    models = {"recipe": own, "always": best, "gained": best if gain.is_gained else own} | _default(whole, options, seed, by_split)
    row: dict[str, Any] = {
        "folder": whole.name,
        "seed": seed,
        "choice": "{} {}".format(*(search.best().values[key] for key in (BACKBONE, SIZE))),
    }
    row |= {name: round(float(np.mean(list(right.values()))), 4) for name, right in models.items()}
    points = {key: round(100 * getattr(gain.accuracy, key), 1) for key in ("difference", "low", "high")}
    return row | points | {"claimed": int(gain.is_gained), "cpu": round(minutes, 2)}, models


def _default(whole: Folder, options: argparse.Namespace, seed: int, by_split: Mapping[str, Any]) -> dict[str, dict[str, bool]]:
    """Return whether the model that the recipe selects is right, by the results of accuracy.py; nothing where they lack it."""
    file = options.results / whole.name / str(seed) / "darkroom.json" if options.results else Path("none")
    if not file.exists():
        return {}
    test = json.loads(file.read_text())["test"]
    labels = sorted({name.partition("/")[0] for name in test["paths"]})
    right = {
        name: labels[int(np.argmax(row))] == name.partition("/")[0]
        for name, row in zip(test["paths"], test["probabilities"], strict=True)
    }
    return {"default": {row.path: right[f"{row.label}/{row.path.replace('/', '-')}"] for row in by_split["test"]}}


def pooled(
    results: Sequence[tuple[str, dict[str, dict[str, bool]]]], one: str, other: str, draws: int = 4000
) -> tuple[float, float, float]:
    """Return the mean over folders of the difference of two models' accuracies, and its 95% interval over images, in points."""
    by_folder: dict[str, dict[str, list[int]]] = {}
    for folder, models in results:
        for path, right in models[one].items():
            by_folder.setdefault(folder, {}).setdefault(path, []).append(int(right) - int(models[other][path]))
    rng, means = np.random.default_rng(0), []
    values = []
    for images in by_folder.values():  # an image may be in the test splits of several seeds
        sums, counts = np.array([[sum(item), len(item)] for item in images.values()]).T
        drawn = rng.integers(len(sums), size=(draws, len(sums)))
        means.append(sums[drawn].sum(1) / counts[drawn].sum(1))
        values.append(sums.sum() / counts.sum())
    low, high = np.percentile(np.mean(means, axis=0), [2.5, 97.5])
    return 100 * float(np.mean(values)), 100 * float(low), 100 * float(high)


def main() -> None:
    path = partial(lambda text: Path(text).resolve())
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=path, nargs="+", metavar="FOLDER")
    parser.add_argument("--weights", type=path, required=True)
    parser.add_argument("--backbones", nargs="+", default=["mobilenet_v2", "timm/efficientnet_lite0"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--sizes", type=int, nargs="*", default=[224])
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--views", type=int, default=3)
    parser.add_argument("--results", type=path)
    options = parser.parse_args()
    os.environ["DARKROOM_TRACKING"] = "off"
    rows: list[dict[str, Any]] = []
    results: list[tuple[str, dict[str, dict[str, bool]]]] = []
    for folder in options.folders:
        with tempfile.TemporaryDirectory() as scratch, chdir(scratch):
            used = time.process_time()
            whole = embed(folder, options)
            embedding = round((time.process_time() - used) / 60, 2)
            for seed in options.seeds:
                row, models = search_split(whole, options, seed)
                rows.append(row | {"embedding": embedding})
                results.append((whole.name, models))
                print(rows[-1], flush=True)
    for one, other in COMPARED:
        both = [(folder, models) for folder, models in results if one in models and other in models]
        if both:
            value, low, high = (round(number, 2) for number in pooled(both, one, other))
            rows.append(
                {"folder": "all", "seed": len(both), "choice": f"{one} - {other}", "difference": value, "low": low, "high": high}
            )
    report("tune_backbones", [dict.fromkeys(rows[0] | {"default": ""}, "") | row for row in rows])


if __name__ == "__main__":
    main()
