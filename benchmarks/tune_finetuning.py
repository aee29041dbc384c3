"""What does all of `darkroom tune` gain on test images, and how often does it claim a gain of fine-tuning where there is none?

    python benchmarks/tune_finetuning.py worth FOLDER [FOLDER…] --weights WEIGHTS [--seeds 0] [--minutes 5]
        [--trials N] [--samplers tpe random]
    python benchmarks/tune_finetuning.py claims FOLDER --weights WEIGHTS [--draws 30] [--images 100] [--trials 6] [--size 64]

worth   recipe `photos` with one backbone, `dvc repro`, and accuracy and log loss on test of its better model out of fold. Then
        `darkroom tune` of so many minutes, what it says, and after its changes and `dvc repro` the same figures of the model that
        it has chosen. Test images are used here alone. The sampler `random` is random search for as long, with the same pruning
claims  draws sets of images again and again, and searches fine-tuning on each, of 3 epochs on small images. How often a gain over
        the settings of params.yaml is claimed, and how often the interval of accuracy holds the truth, where
          same      every trial has the settings of params.yaml and another seed: there is nothing to gain
          shuffled  a search where the labels are shuffled: no accuracy can be gained
          search    a search; the truth is measured on the images that were not drawn

WEIGHTS has the files of torchvision's backbones.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import chdir
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from measuring import report
from tune import _percent, _summary, project

from darkroom import cli
from darkroom.commands.tune import load_pool
from darkroom.config import params, recipes
from darkroom.config.params import Params
from darkroom.data import arrays
from darkroom.evaluation import selection_bias
from darkroom.inference.classifier import Classifier
from darkroom.stages import fold_models
from darkroom.stages.fold_models import Fold, FrozenNetwork
from darkroom.training.batches import SomeViews
from darkroom.tuning import search
from darkroom.tuning.fine_tuning import FineTuning
from darkroom.tuning.heads import Pool
from darkroom.tuning.search import Search
from darkroom.tuning.space import Values
from darkroom.tuning.trials import FINETUNE, Trial

STAGES = {"heads": "transfer", FINETUNE: "finetune"}
PARAMS = Path("params.yaml")


def repro(network: str, phase: str) -> None:
    """Run the graph up to the model of a phase."""
    command = [sys.executable, "-m", "dvc", "repro", f"{STAGES[phase]}@{network}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"dvc repro failed:\n{(done.stdout + done.stderr)[-3000:]}")


def score(phase: str, network: str) -> dict[str, float]:
    """Return accuracy and log loss on test of a head, or of a fine-tuned network."""
    images, labels = arrays.load_split(Path("data/ingested/test"))
    probabilities = Classifier.load(Path("models", STAGES[phase], network)).probabilities(images, 64)
    losses = selection_bias.log_losses(probabilities, labels)
    accuracy = float((probabilities.argmax(1) == labels).mean())
    return {"test_accuracy": round(accuracy, 4), "test_log_loss": round(float(losses.mean()), 4)}


def tune(minutes: float, trials: int, sampler: str) -> dict[str, Any]:
    """Return what `darkroom tune --json` prints."""
    output = io.StringIO()
    shutil.rmtree(".darkroom/tune", ignore_errors=True)
    most = ["--trials", str(trials)] if trials else []
    with mock.patch.object(search, "Search", partial(Search, sampler=sampler)), contextlib.redirect_stdout(output):
        code = cli.main(["tune", "--minutes", str(minutes), *most, "--json"])
    if code:
        raise SystemExit(f"darkroom tune failed with {code}")
    return dict(json.loads(output.getvalue()))


def worth(folder: Path, options: argparse.Namespace, seed: int) -> list[dict[str, Any]]:
    """Return a row for the recipe and for each search on one split of a folder."""
    rows: list[dict[str, Any]] = []
    network = options.backbones[0]
    with tempfile.TemporaryDirectory() as scratch, chdir(project(scratch, folder, options, seed)):
        before = PARAMS.read_text()
        repro(network, FINETUNE)
        recipe = {phase: score(phase, network) for phase in STAGES}
        for sampler in options.samplers:
            load, started, used = os.getloadavg()[0], time.monotonic(), time.process_time()
            outcome = tune(options.minutes, options.trials, sampler)
            cost = {"minutes": round((time.monotonic() - started) / 60, 1), "cpu": round((time.process_time() - used) / 60, 1)}
            trials, gain = outcome["trials"], outcome["gain"]
            best, reference = trials[outcome["best"]], trials[outcome["recipe"]]
            if not rows:
                own = recipe[reference["phase"]]
                rows.append(_row(folder, seed, "recipe", reference) | own)
                print(rows[-1], flush=True)
            recipes.apply(PARAMS, outcome["changes"], lambda settings: None)
            chosen = outcome["changes"].get("backbones", [network])[0]
            if outcome["changes"]:
                repro(chosen, best["phase"])
            states = [trial["state"] for trial in trials if trial["phase"] == FINETUNE]
            interval = {key: _percent(gain["accuracy"][key]) for key in ("difference", "low", "high")}
            rows.append(
                _row(folder, seed, sampler, best) | score(best["phase"], chosen)
                | {"heads": len(trials) - len(states), "finetune": len(states), "complete": states.count("complete")}
                | interval | {"claimed": int(gain["is_gained"])} | cost | {"load": round(load, 1)}
            )  # fmt: skip
            print(rows[-1], outcome["changes"], flush=True)
            PARAMS.write_text(before)
    return rows


def _row(folder: Path, seed: int, name: str, trial: dict[str, Any]) -> dict[str, Any]:
    return {"folder": folder.name, "seed": seed, "search": name, "model": trial["phase"], "log_loss": round(trial["log_loss"], 4)}


@dataclass
class Drawn(FineTuning):
    """Trials on some images of a pool, by what the frozen blocks made of all of them."""

    whole: FineTuning | None = None
    rows: np.ndarray = field(default_factory=lambda: np.arange(0))

    def _freeze(self, values: Values, settings: Params) -> tuple[FrozenNetwork, str]:
        assert self.whole is not None
        frozen, key = self.whole._freeze(values, settings)
        pool = fold_models.Pool(self.pool.images, self.pool.images[None], self.pool.labels, self.pool.folds)
        return replace(
            frozen, pool=pool, embeddings=frozen.embeddings[:, self.rows], own_embeddings=frozen.own_embeddings[:, self.rows],
            inputs=SomeViews(frozen.inputs, self.rows), own_inputs=frozen.own_inputs[self.rows],
        ), key  # fmt: skip


class Reseeded(Search):
    """A search whose trials all have the settings of params.yaml, and another seed."""

    def fine_tune(self, tuner: FineTuning, is_over: Any, *_: Any) -> None:
        own = tuner.pool
        while not is_over(self.trials):
            number = len(self.trials)
            compute = own.settings.compute.model_copy(update={"seed": 1000 * self.seed + number})
            tuner.pool = replace(own, settings=own.settings.model_copy(update={"compute": compute}))
            tuner.pool.__dict__["folds"] = own.folds
            tuner.heads.clear()
            phase = self.finetuning(tuner, {})
            self.trials.append(self._train(phase, phase.recipes[0], search._never, is_recipe=number == 0)[0])
        tuner.pool = own


def claim(case: str, pool: Pool, whole: FineTuning, options: argparse.Namespace, draw: int) -> dict[str, Any]:
    """Draw images, search on them, and return what is claimed and what is true on the other images."""
    rng = np.random.default_rng([draw, 11])
    order = rng.permutation(len(pool.labels))
    drawn, others = np.sort(order[: options.images]), np.sort(order[options.images :])
    labels = rng.permutation(pool.labels) if case == "shuffled" else pool.labels
    part = Pool(pool.images[drawn], labels[drawn], pool.groups[drawn], pool.classes, pool.settings, val_share=0.2, is_kept=False)
    tuner = Drawn(part, whole.images_at, whole.sources, whole.folder, whole.scratch, whole=whole, rows=drawn)
    kind = Reseeded if case == "same" else Search
    one = kind(part, {}, options.backbones, draw)
    one.fine_tune(tuner, lambda trials: len(trials) >= (options.trials or 6))
    gain = one.gain()
    truth = 0.0
    if case == "search" and not one.best().is_recipe:
        everything = replace(part, images=pool.images, labels=labels, groups=pool.groups, val_share=0.2)
        fold = part.folds[0]  # its validation images, and all others, train the models that are compared
        split = Fold(0, drawn[np.concatenate([fold.train, fold.held_out])], drawn[fold.val], others)
        everything.__dict__["folds"] = [split]
        judge = Drawn(
            everything, whole.images_at, whole.sources, whole.folder, whole.scratch, whole=whole, rows=np.arange(len(order))
        )

        def accuracy(trial: Trial) -> float:
            predicted = judge.predict(trial.values, split, False)
            return float((predicted.argmax(1) == labels[others]).mean())

        truth = accuracy(one.best()) - accuracy(one.reference())
    return {
        "accuracy": gain.is_accuracy_gained, "log loss": gain.is_log_loss_gained, "naive": gain.naive_accuracy,
        "estimate": gain.accuracy.difference, "truth": truth, "covered": gain.accuracy.low <= truth <= gain.accuracy.high,
        "width": gain.accuracy.high - gain.accuracy.low,
    }  # fmt: skip


def claims(folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for each case."""
    rows = []
    settings = ("augment.views=2", "transfer.epochs=10", "finetune.epochs=3", "compute.threads=1")
    with tempfile.TemporaryDirectory() as scratch, chdir(project(scratch, folder, options, 0, *settings)):
        pool = load_pool(params.read())
        place = Path(scratch, "maps")
        place.mkdir()
        whole = FineTuning(
            replace(pool, is_kept=False),
            lambda size: pool.images,
            dict.fromkeys(options.backbones, "folder"),
            options.weights,
            place,
        )
        with mock.patch("darkroom.tuning.fine_tuning.MOST_FROZEN", 100):
            for case in options.cases:
                started = time.monotonic()
                results = [claim(case, pool, whole, options, draw) for draw in range(options.draws)]
                rows.append(
                    {"folder": folder.name, "images": options.images, "case": case, "draws": options.draws} | _summary(results)
                )
                print(rows[-1] | {"seconds": round(time.monotonic() - started)}, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("worth", "claims"))
    parser.add_argument("folders", type=lambda text: Path(text).resolve(), nargs="+", metavar="FOLDER")
    parser.add_argument("--weights", type=lambda text: Path(text).resolve(), required=True)
    parser.add_argument("--backbones", nargs=1, default=["mobilenet_v2"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--size", type=int, default=0, help="pixels; by default 160, for claims 64")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--samplers", nargs="+", default=["tpe"])
    parser.add_argument("--draws", type=int, default=30)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--trials", type=int, default=0, help="of each kind; by default as many as there is time for, for claims 6")
    parser.add_argument("--cases", nargs="+", default=["same", "shuffled"])
    options = parser.parse_args()
    options.size = options.size or (160 if options.part == "worth" else 64)
    os.environ["DARKROOM_TRACKING"] = "off"
    if options.part == "worth":
        rows = [row for folder in options.folders for seed in options.seeds for row in worth(folder, options, seed)]
    else:
        rows = [row for folder in options.folders for row in claims(folder, options)]
    report(f"tune_finetuning_{options.part}", rows)


if __name__ == "__main__":
    main()
