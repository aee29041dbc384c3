"""Recipe `photos` against variations of its head and of its fine-tuning, on the same splits.

    python benchmarks/recipe_trials.py heads FOLDER… --weights WEIGHTS [--seeds 0 1 2 3 4] [--images 690] [--only NAME…]
    python benchmarks/recipe_trials.py blocks FOLDER… --weights WEIGHTS [--seeds 0 1 2] [--threads 2]
        [--results reports/bench/recipe_trials]

heads    a head on frozen MobileNetV2 (WEIGHTS has its file). Images and views are embedded once for all splits
blocks   the last blocks, fine-tuned from that head, on feature maps that are computed once for all splits

The splits are those of `ingest` with each seed, heads are trained by `transfer.train_head` and blocks by `fit` as `finetune`
calls it. A FOLDER may be an `.npz` of images and labels; of each, `--images` are drawn. Accuracy and log loss on test, the
mean over folders and seeds; the difference to the recipe is paired over them, with Student's interval, and p is corrected for
the number of variations (Holm 1979). Splits of one folder share images, so the intervals are a little narrow. Seconds are
processor time of training alone. Nothing is chosen by test images.
`recipe_variations.py` has the variations.

Each result is kept under RESULTS and not repeated: the command continues where it was stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import kept
from measuring import report
from recipe_cases import EMBEDDING, Case, read
from recipe_variations import BLOCKS, HEADS, RECIPE, Trial

from darkroom.evaluation import seed_comparison
from darkroom.evaluation.selection_bias import log_losses
from darkroom.evaluation.significance import holm

Result = dict[str, float]
Figures = Mapping[str, Mapping[tuple[str, int], Result]]  # by variation, and by folder and seed


def run(case: Case, trial: Trial) -> Result:
    """Return accuracy and log loss of a variation on the test images of a split."""
    started = time.process_time() - sum(EMBEDDING)
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        probabilities = trial(case)
    labels = case.labels(case.test)
    return {
        "accuracy": float((probabilities.argmax(1) == labels).mean()),
        "log loss": float(log_losses(probabilities, labels).mean()),
        "seconds": time.process_time() - sum(EMBEDDING) - started, "images": len(labels),
    }  # fmt: skip


def summarise(figures: Figures) -> list[dict[str, Any]]:
    """Return a row for each variation: means, and differences to the recipe where both were run."""
    rows, ps = [], {}
    for name, results in figures.items():
        mean = {key: float(np.mean([result[key] for result in results.values()])) for key in ("accuracy", "log loss", "seconds")}
        row: dict[str, Any] = {"variation": name, "cases": len(results), **{key: round(value, 4) for key, value in mean.items()}}
        for key, factor in (("accuracy", 100), ("log loss", 1)):
            first = {case: factor * figures[RECIPE][case][key] for case in results}
            difference, p, _ = seed_comparison.against(first, {case: factor * result[key] for case, result in results.items()})
            ps[name, key] = p
            row |= {key + " difference": "" if name == RECIPE else _interval(difference, 2 if factor == 100 else 3)}
        for folder in dict.fromkeys(folder for folder, _ in figures[RECIPE]):
            own = [case for case in results if case[0] == folder]
            gain = [100 * (results[case]["accuracy"] - figures[RECIPE][case]["accuracy"]) for case in own]
            row[folder] = f"{np.mean(gain):+.1f}" if own and name != RECIPE else ""
        rows.append(row)
    for key in ("accuracy", "log loss"):
        corrected = dict(zip(figures, [float("nan"), *holm([ps[name, key] for name in figures if name != RECIPE])], strict=True))
        for row in rows:
            row["p of " + key] = "" if row["variation"] == RECIPE else f"{corrected[row['variation']]:.2g}"
    return rows


def _interval(estimate: seed_comparison.Estimate, digits: int) -> str:
    return f"{estimate.value:+.{digits}f} ({estimate.low:+.{digits}f} to {estimate.high:+.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("heads", "blocks"))
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("--weights", type=lambda text: Path(text).resolve(), required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--images", type=int, default=690, help="at most so many of a folder, the same share of each class")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="variations, beside the recipe")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--results", type=lambda text: Path(text).resolve(), default=Path("reports/bench/recipe_trials").resolve())
    options = parser.parse_args()
    os.environ["DARKROOM_TRACKING"] = "off"
    trials = HEADS if options.part == "heads" else BLOCKS
    names = [name for name in trials if not options.only or name in (RECIPE, *options.only)]
    figures: dict[str, dict[tuple[str, int], Result]] = {name: {} for name in names}
    for folder in (read(source, options) for source in options.folders):
        for seed in options.seeds:
            case = Case(folder, seed, **folder.splits[seed])
            for name in names:
                file = folder.place / f"{seed}" / options.part / f"{name}.json"
                figures[name][folder.name, seed] = kept(file, lambda case=case, name=name: run(case, trials[name]))
            print(folder.name, seed, {name: round(of[folder.name, seed]["accuracy"], 4) for name, of in figures.items()},
                  file=sys.stderr, flush=True)  # fmt: skip
    report(f"recipe_{options.part}", summarise(figures), {"options": vars(options)})


if __name__ == "__main__":
    main()
