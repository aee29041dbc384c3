"""Is a search of settings for the head worth its time, and is what `darkroom tune` calls a gain one?

    python benchmarks/tune.py worth FOLDER [FOLDER…] --weights WEIGHTS [--backbones NAME…] [--seeds 0 1 2] [--fits 150] [--size 160]
    python benchmarks/tune.py claims FOLDER --weights WEIGHTS [--draws 60] [--images 100] [--trials 12]

worth   the settings of the recipe, random search and TPE, both with pruning and the same number of heads trained (`--fits`), on
        training and validation images. Out-of-fold log loss and what `darkroom tune` says; log loss and accuracy on test of a head
        that is trained as `transfer` trains it with the settings that were chosen. Embeddings are computed once for all
claims  draws sets of images again and again, and searches on each (random search, one view, 10 epochs). How often a gain is
        claimed, how large the gain of the chosen settings is on all images that were not drawn, and how often the interval of
        accuracy holds it, where
          same      every trial has the settings of the recipe and another seed: there is nothing to gain
          shuffled  the labels are shuffled: no accuracy can be gained, whatever the log loss does
          recipe    the recipe's settings, and those of a search
          poor      the same search, against settings of 2 epochs at a rate of 0.0001: there is much to gain
        A gain is claimed where the interval of accuracy or that of the log loss leaves out 0; with shuffled labels the latter may
        be true, since there stronger regularisation does improve the log loss

WEIGHTS has the files of torchvision's backbones.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import chdir
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import Workspace, report

from darkroom.commands.tune import load_pool
from darkroom.config import params
from darkroom.data import arrays
from darkroom.evaluation import selection_bias
from darkroom.models.probabilities import softmax
from darkroom.stages import transfer
from darkroom.training.batches import Examples
from darkroom.tuning.heads import Embedded, Pool
from darkroom.tuning.search import Search
from darkroom.tuning.space import BACKBONE, VIEWS, Values, hyper_of, recipe
from darkroom.tuning.trials import Trial

BACKBONES = ("mobilenet_v2", "squeezenet1_1")
POOR = {"lr": 1e-4, "epochs": 2}


def project(scratch: str, folder: Path, options: argparse.Namespace, seed: int, *settings: str) -> Path:
    """Return the folder of a new project with the images of a folder ingested."""
    place = Workspace(Path(scratch) / "project")
    place.recipe(
        "photos", "--data", str(folder), "--weights", str(options.weights), "--set", f"backbones=[{','.join(options.backbones)}]",
        f"ingest.image_size={options.size}", f"ingest.seed={seed}", f"compute.seed={seed}", "ingest.max_quarantined=1.0", *settings,
    )  # fmt: skip
    place.run("dvc", "repro", "ingest")
    return place.place


def test_scores(pool: Pool, values: Values, train: Examples, val: Examples, test: Examples) -> tuple[float, float]:
    """Return accuracy and log loss on test embeddings of a head with the values of a trial."""
    settings = pool.settings.model_copy(update={"transfer": hyper_of(values, pool.settings)})
    with contextlib.redirect_stderr(io.StringIO()):
        head, result = transfer.train_head(train, val, pool.classes, settings, "head")
    with torch.inference_mode():
        probabilities = softmax(head(torch.from_numpy(np.asarray(test.inputs)[0])).numpy(), result.temperature)
    losses = selection_bias.log_losses(probabilities, test.labels)
    return float((probabilities.argmax(1) == test.labels).mean()), float(losses.mean())


def worth(folder: Path, options: argparse.Namespace, seed: int) -> list[dict[str, Any]]:
    """Return a row for the recipe, random search and TPE on one split of a folder."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch, chdir(project(scratch, folder, options, seed)):
        settings = params.read()
        pool = load_pool(settings)
        counts = [len(arrays.load_split(Path("data/ingested", split))[1]) for split in ("train", "val")]
        test_images, test_labels = arrays.load_split(Path("data/ingested/test"))
        embedded = {name: pool.embed(name, "folder", options.weights) for name in options.backbones}
        one_view = settings.augment.model_copy(update={"views": 1})
        other = replace(pool, images=test_images, is_kept=False, settings=settings.model_copy(update={"augment": one_view}))
        tests = {name: other.embed(name, "folder", options.weights).images for name in options.backbones}

        def score(trial: Trial) -> dict[str, float]:
            own = embedded[trial.values[BACKBONE]]
            train = Examples(own.views[: trial.values[VIEWS], : counts[0]], pool.labels[: counts[0]])
            val = Examples(own.images[None, counts[0] :], pool.labels[counts[0] :])
            of_test = Examples(tests[trial.values[BACKBONE]][None], test_labels)
            accuracy, loss = test_scores(pool, trial.values, train, val, of_test)
            return {"test_accuracy": round(accuracy, 4), "test_log_loss": round(loss, 4)}

        for sampler in ("random", "tpe"):
            search = Search(pool, embedded, options.backbones, seed, sampler)  # type: ignore[arg-type]
            search.run(lambda trials: sum(trial.folds for trial in trials) >= options.fits)
            gain = search.gain()
            best_trials = [("recipe", search.reference()), (sampler, search.best())] if not rows else [(sampler, search.best())]
            for name, trial in best_trials:
                says = gain if name != "recipe" else None
                interval = [_percent(getattr(gain.accuracy, key)) if says else "" for key in ("difference", "low", "high")]
                rows.append(
                    {"folder": folder.name, "seed": seed, "search": name, "trials": len(search.trials) if says else 0}
                    | {"log_loss": round(trial.log_loss, 4)} | score(trial)
                    | dict(zip(("gain", "low", "high"), interval, strict=True))
                    | {"claimed": int(says.is_accuracy_gained or says.is_log_loss_gained) if says else ""}
                )  # fmt: skip
                print({key: value for key, value in rows[-1].items() if value != ""}, flush=True)
    return rows


def _percent(share: float) -> float:
    return round(100 * share, 2)


class Reseeded(Search):
    """A search whose proposals all have the settings of the recipe, and another seed."""

    def run(self, is_over: Any, on_trial: Any = lambda trial: None) -> None:
        own, settings = self.pool, self.pool.settings
        while not is_over(self.trials):
            number = len(self.trials)
            compute = settings.compute.model_copy(update={"seed": 1000 * self.seed + number})
            self.pool = replace(own, settings=settings.model_copy(update={"compute": compute}))
            self.pool.__dict__["folds"] = own.folds
            trial, _ = self._train(self.heads(), recipe(settings, self.candidates[0]), lambda fold, loss: False, number == 0)
            self._add(trial, on_trial)
        self.pool = own


def claim(case: str, pool: Pool, embedded: Embedded, options: argparse.Namespace, draw: int) -> dict[str, Any]:
    """Draw images, search on them, and return what is claimed and what is true on the other images."""
    rng = np.random.default_rng([draw, 7])
    rows = rng.permutation(len(pool.labels))
    drawn, others = np.sort(rows[: options.images]), np.sort(rows[options.images :])
    settings = pool.settings
    if case == "poor":
        settings = settings.model_copy(update={"transfer": settings.transfer.model_copy(update=POOR)})
    labels = rng.permutation(pool.labels) if case == "shuffled" else pool.labels
    part = Pool(
        pool.images[drawn], labels[drawn], pool.groups[drawn], pool.classes, settings, val_share=0.2, is_kept=False
    )  # fmt: skip
    own = Embedded(embedded.images[drawn], embedded.views[:, drawn], 1.0, "")
    kind = Reseeded if case == "same" else Search
    name = options.backbones[0]
    if case == "poor":  # the space is around the recipe's settings, and the reference is the poor one
        search = Search(replace(part, settings=pool.settings), {name: own}, [name], draw, "random", is_pruning=False)
        poor = Search(part, {name: own}, [name])
        before, _ = poor._train(poor.heads(), recipe(settings, name), lambda fold, loss: False, is_recipe=True)
        search.run(lambda trials: len(trials) >= options.trials)
        search.trials = [before, *(replace(trial, number=trial.number + 1, is_recipe=False) for trial in search.trials)]
    else:
        search = kind(part, {name: own}, [name], draw, "random", is_pruning=False)
        search.run(lambda trials: len(trials) >= options.trials)
    gain = search.gain()
    fold = part.folds[0]
    train = np.concatenate([fold.train, fold.held_out])
    examples = Examples(own.views[:, train], part.labels[train]), Examples(own.images[None, fold.val], part.labels[fold.val])
    test = Examples(embedded.images[None, others], labels[others])
    best, reference = (test_scores(part, trial.values, *examples, test)[0] for trial in (search.best(), search.reference()))
    truth = 0.0 if case in ("same", "shuffled") else best - reference
    return {
        "accuracy": gain.is_accuracy_gained, "log loss": gain.is_log_loss_gained, "naive": gain.naive_accuracy,
        "estimate": gain.accuracy.difference, "truth": truth, "covered": gain.accuracy.low <= truth <= gain.accuracy.high,
        "width": gain.accuracy.high - gain.accuracy.low,
    }  # fmt: skip


def claims(folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for each case."""
    rows = []
    options.backbones = options.backbones[:1]
    with (
        tempfile.TemporaryDirectory() as scratch,
        chdir(
            project(
                scratch, folder, options, 0, "augment.views=1", "augment.policy=none", "transfer.epochs=10", "compute.threads=1"
            )
        ),
    ):
        pool = load_pool(params.read())
        embedded = pool.embed(options.backbones[0], "folder", options.weights)
        for case in options.cases:
            started = time.monotonic()
            results = [claim(case, pool, embedded, options, draw) for draw in range(options.draws)]
            rows.append({"folder": folder.name, "images": options.images, "case": case, "draws": options.draws} | _summary(results))
            print(rows[-1] | {"seconds": round(time.monotonic() - started)}, flush=True)
    return rows


def _summary(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    mean = {key: float(np.mean([item[key] for item in results])) for key in results[0]}
    either = float(np.mean([item["accuracy"] or item["log loss"] for item in results]))
    shares = {
        "claimed accuracy": mean["accuracy"],
        "claimed log loss": mean["log loss"],
        "either": either,
        "holds": mean["covered"],
    }
    points = {key: _percent(mean[key]) for key in ("naive", "estimate", "truth", "width")}
    return {key: round(value, 3) for key, value in shares.items()} | points


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("worth", "claims"))
    parser.add_argument("folders", type=lambda text: Path(text).resolve(), nargs="+", metavar="FOLDER")
    parser.add_argument("--weights", type=lambda text: Path(text).resolve(), required=True)
    parser.add_argument("--backbones", nargs="+", default=list(BACKBONES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--fits", type=int, default=150)
    parser.add_argument("--draws", type=int, default=60)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--cases", nargs="+", default=["same", "shuffled", "recipe", "poor"])
    options = parser.parse_args()
    os.environ["DARKROOM_TRACKING"] = "off"
    if options.part == "worth":
        rows = [row for folder in options.folders for seed in options.seeds for row in worth(folder, options, seed)]
    else:
        rows = [row for folder in options.folders for row in claims(folder, options)]
    report(f"tune_{options.part}", rows)


if __name__ == "__main__":
    main()
