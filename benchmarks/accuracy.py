"""Test accuracy, time and lines of code against fastai, Keras, AutoGluon, Geti's library and the PyTorch tutorial's recipe.

    python benchmarks/peers/install.py ENVIRONMENTS
    python benchmarks/accuracy.py FOLDER… --weights WEIGHTS --environments ENVIRONMENTS [--seeds 0 1 2 3 4]
        [--peers tutorial fastai keras autogluon geti] [--images 1000] [--report]
        [--results reports/bench/accuracy] [--name accuracy]

All begin with the same MobileNetV2 weights (WEIGHTS has mobilenet_v2.safetensors), read images at 160 px and have the
train, val and test images of Darkroom's split, exported as folders. Darkroom has the defaults of recipe `photos`; of
its transferred and fine-tuned network that counts which the leaderboard's rule selects on val. What each peer does, and
why, stands in benchmarks/peers/NAME_peer.py. No figure on test images selects anything. A FOLDER may be an `.npz` of
images and labels, of which `--images` are drawn.

accuracy    on the test images of all seeds, with the interval of the difference to Darkroom on the same images: a bootstrap
            over images, of which one may be in the test splits of several seeds; images that a peer does not read, as a GIF
            by ImageFolder, are left out for all
minutes     wall time of everything from Enter on, start-up included, and processor time of all processes, which says more
            where the machine is busy; of Darkroom up to the fine-tuned network, as of the peers, and with `--report` up to the
            report. On a busy machine set GOMP_SPINCOUNT=1000 for all, so that waiting threads do not spin
lines       of code that the user writes

Each run is kept under RESULTS and not repeated: the command continues where it was stopped.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from measuring import Workspace, median, report
from peers.conversion import largest_difference
from PIL import Image
from transfer import trained_modules

from darkroom.config import params
from darkroom.data import manifest
from darkroom.evaluation import selection, significance
from darkroom.evaluation.selection import Judged
from darkroom.inference.classifier import Classifier

PEERS = ("tutorial", "fastai", "keras", "autogluon", "geti")
NETWORK, SIZE = "mobilenet_v2", 160
TESTED = ("val", "test")
SCRIPTS = Path(__file__).with_name("peers")
LIBRARY_CODE = {"architecture", "pretrained", "checkpoint", "main"}  # weights from a file, and options: not what a user writes
DARKROOM_LINES = 2  # `darkroom recipe photos …` and `dvc repro`

Result = dict[str, Any]


def timed(work: Callable[[], object]) -> dict[str, float]:
    """Return the wall time and the processor time of the processes that `work` starts, and the load before, in seconds."""
    load = os.getloadavg()[0]
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    work()
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"wall": wall, "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, "load": load}


def run_darkroom(folder: Path, images: Path, weights: Path, seed: int, with_report: bool) -> Result:
    """Run recipe `photos` with its defaults, link the images of its split under `images`, and return its result.

    `whole` also measures the run up to the report, with the baseline.
    """
    with tempfile.TemporaryDirectory() as scratch:
        place = Workspace(Path(scratch) / "ours")
        seeds = ("--set", f"ingest.seed={seed}", f"compute.seed={seed}")
        place.recipe("photos", "--data", str(folder), "--weights", str(weights), *seeds)
        result: Result = timed(lambda: place.run("dvc", "repro", f"finetune@{NETWORK}", DARKROOM_TRACKING="off"))
        if with_report:
            rest = timed(lambda: place.run("dvc", "repro", "evaluate", DARKROOM_TRACKING="off"))
            result["report"] = {key: result[key] + rest[key] for key in ("wall", "cpu")}
        return result | predictions(place.place, folder, images)


def predictions(place: Path, folder: Path, images: Path) -> Result:
    """Return what the transferred and the fine-tuned network of a workspace predict for val and test, and of the selected one."""
    rows = manifest.read_images(place / "data/ingested/manifest.parquet")
    names = {row.path: f"{row.label}/{row.path.replace('/', '-')}" for split in rows.values() for row in split}
    for split, of_split in rows.items():
        for row in of_split:
            link = images / split / names[row.path]
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink():
                link.symlink_to(folder.resolve() / row.path)
    classes = json.loads((place / "data/ingested/classes.json").read_text())
    labels = np.load(place / "data/ingested/val/labels.npy")
    models: dict[str, dict[str, Any]] = {}
    for model in (f"transfer/{NETWORK}", f"finetune/{NETWORK}"):
        classifier = Classifier.load(place / "models" / model)
        models[model] = {split: classifier.probabilities(np.load(place / f"data/ingested/{split}/images.npy")) for split in TESTED}
    judged = Judged(
        labels, np.array([row.group for row in rows["val"]]), {name: of["val"] for name, of in models.items()}, tuple(classes)
    )
    best = selection.select(params.read(place / "params.yaml").evaluate.select, judged)[0]
    order = np.argsort(classes)  # the peers' classes are in the order of their names
    paths = {split: [names[row.path] for row in rows[split]] for split in TESTED}
    lists = {
        name: {split: {"paths": paths[split], "probabilities": of[split][:, order].tolist()} for split in TESTED}
        for name, of in models.items()
    }
    groups = {names[row.path]: row.group for split in rows.values() for row in split}
    return {"best": best, "groups": groups, "models": lists} | lists[best]


def run_peer(peer: str, images: Path, seed: int, options: argparse.Namespace, *settings: str) -> Result:
    """Run a peer's script in its own environment on the split under `images`."""
    python = Path(sys.executable) if peer == "tutorial" else options.environments / peer / "bin/python"
    if not python.exists():
        raise SystemExit(f"{python} is missing: python benchmarks/peers/install.py {options.environments} {peer}")
    if peer == "tutorial":
        settings = (*settings, f"trained={json.dumps(options.trained)}")
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "out.json"
        command = [
            str(python), "-W", "ignore", str(SCRIPTS / f"{peer}_peer.py"), str(images), "--weights", str(weights_file(options)),
            "--size", str(SIZE), "--seed", str(seed), "--out", str(out), "--set", *settings,
        ]  # fmt: skip
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        done: list[subprocess.CompletedProcess[str]] = []
        measured = timed(lambda: done.append(subprocess.run(command, env=environment, capture_output=True, text=True)))
        if done[0].returncode:
            raise SystemExit(f"{peer} failed:\n{done[0].stderr[-4000:]}")
        return {**measured, **json.loads(out.read_text())}


def weights_file(options: argparse.Namespace) -> Path:
    for file in options.weights.glob(f"{NETWORK}*.safetensors"):
        return file
    raise SystemExit(f"{options.weights} has no {NETWORK}.safetensors")


def quicker_threads(images: Path, options: argparse.Namespace) -> int:
    """Return the number of threads with which the tutorial's recipe is quicker, over one epoch of each kind."""
    epochs = ("head_epochs=1", "finetune_epochs=1")
    tried = {threads: run_peer("tutorial", images, 0, options, f"threads={threads}", *epochs)["wall"] for threads in (1, 2)}
    return min(tried, key=lambda threads: tried[threads])


def kept(file: Path, work: Callable[[], Result]) -> Result:
    """Return the result in a file, or that of `work`, which is then written there."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        result = work()
        file.with_suffix(".partial").write_text(json.dumps(result) + "\n")
        file.with_suffix(".partial").replace(file)
    return json.loads(file.read_text())


def unpack(file: Path, into: Path, count: int) -> Path:
    """Write `count` images of an `.npz`, equally many of each class, as PNG files in folders of classes."""
    if not into.exists():
        with np.load(file, allow_pickle=False) as arrays:
            names = ("images", "labels") if "images" in arrays else ("train_images", "train_labels")
            images, labels = (arrays[name] for name in names)
            classes = [str(name) for name in arrays["class_names"]]
        for number, name in enumerate(classes):
            place = into.with_suffix(".partial") / re.sub(r"\W+", "-", name)
            place.mkdir(parents=True)
            for index in np.flatnonzero(labels == number)[: count // len(classes)]:
                Image.fromarray(images[index]).save(place / f"{index:05d}.png")
        into.with_suffix(".partial").replace(into)
    return into


def correct(result: Mapping[str, Any], classes: list[str], split: str = "test") -> dict[str, bool]:
    """Return for each image, `class/name`, whether its most probable class is its own."""
    predicted = np.asarray(result[split]["probabilities"]).argmax(1)
    pairs = zip(result[split]["paths"], predicted, strict=True)
    return {path: classes[number] == path.partition("/")[0] for path, number in pairs}


def lines(peer: str) -> int:
    """Return how many lines of a peer's script its user writes: without comments, docstrings and empty lines, without
    the options, and without what reads the weights from a file."""
    path = Path(__file__).with_name("tutorial.py") if peer == "tutorial" else SCRIPTS / f"{peer}_peer.py"
    text = path.read_text()
    counted: set[int] = set()
    for node in ast.parse(text).body:
        named = getattr(node, "name", "") in LIBRARY_CODE
        guard = isinstance(node, ast.If)
        aside = isinstance(node, ast.ImportFrom) and node.module == "__future__"
        if not (named or guard or aside):
            counted |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    for node in ast.walk(ast.parse(text)):  # docstrings, and other texts that stand alone
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            counted -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    rows = text.splitlines()
    return sum(1 for number in counted if rows[number - 1].strip() and not rows[number - 1].strip().startswith("#"))


def compare(runs: list[dict[str, Any]], peer: str) -> dict[str, Any]:
    """Return accuracy and difference to Darkroom, with its interval, over runs that have the peer.

    Only images that all contenders read count: ImageFolder passes over a GIF.
    """
    mine, theirs, groups = [], [], []
    for run in (run for run in runs if peer in run["results"]):
        predicted = {name: correct(result, run["classes"]) for name, result in run["results"].items()}
        of_image = run["results"]["darkroom"]["groups"]
        for path in sorted(set.intersection(*(set(of) for of in predicted.values()))):
            mine.append(predicted["darkroom"][path])
            theirs.append(predicted[peer][path])
            groups.append(f"{run['folder']} {of_image[path]}")
    first, second = np.array(mine, int), np.array(theirs, int)
    numbers = np.unique(groups, return_inverse=True)[1]
    interval = significance.bootstrap(np.ones(len(first), int), first, second, 2, numbers)["accuracy"]
    return {
        "images": len(first), "accuracy": float(second.mean()), "darkroom": float(first.mean()),
        "difference": interval.difference, "low": interval.low, "high": interval.high,
    }  # fmt: skip


def row(folder: str, runs: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """Return a row of the table: a contender on a folder, or on all."""
    present = [run["results"][name] for run in runs if name in run["results"]]
    figures = compare(runs, name)
    difference = "" if name == "darkroom" else f"{figures['difference']:+.3f} ({figures['low']:+.3f} to {figures['high']:+.3f})"
    cells = {
        "folder": folder, "contender": name, "seeds": len(present), "images": figures["images"], "accuracy": figures["accuracy"],
        "Darkroom there": figures["darkroom"], "difference": difference,
        "minutes": median([result["wall"] for result in present]) / 60,
        "processor minutes": median([result["cpu"] for result in present]) / 60,
        "load before": max(result["load"] for result in present),
        "lines": DARKROOM_LINES if name == "darkroom" else lines(name),
    }  # fmt: skip
    reports = [result["report"] for result in present if "report" in result]
    if reports:
        minutes = [median([figures[key] for figures in reports]) / 60 for key in ("wall", "cpu")]
        cells["difference"] = f"with report {minutes[0]:.2f} min, processor {minutes[1]:.2f} min"
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--environments", type=Path, default=Path("build/peers"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument("--images", type=int, default=1000, help="at most so many of an .npz")
    parser.add_argument("--report", action="store_true", help="measure Darkroom up to its report, too")
    parser.add_argument("--results", type=Path, default=Path("reports/bench/accuracy"))
    parser.add_argument("--name", default="accuracy", help="of the JSON under reports/bench")
    options = parser.parse_args()
    options.weights, options.results = options.weights.resolve(), options.results.resolve()
    options.trained = trained_modules(NETWORK)
    if "keras" in options.peers:
        weights, python = weights_file(options), options.environments / "keras/bin/python"
        kept(options.results / "conversion.json", lambda: {"largest difference": largest_difference(weights, python)})
    runs = []
    for seed in options.seeds:
        for source in options.folders:
            name = source.absolute().stem
            place = options.results / name
            folder = unpack(source, place / "source", options.images) if source.suffix == ".npz" else source.absolute()
            images = place / f"{seed}/images"
            file = place / f"{seed}/darkroom.json"
            results = {
                "darkroom": kept(file, lambda f=folder, i=images, s=seed: run_darkroom(f, i, options.weights, s, options.report))
            }
            for peer in options.peers:
                settings = []
                if peer == "tutorial":
                    threads = kept(options.results / "threads.json", lambda i=images: {"threads": quicker_threads(i, options)})
                    settings = [f"threads={threads['threads']}"]
                file = place / f"{seed}/{peer}.json"
                work = lambda p=peer, i=images, s=seed, e=settings: run_peer(p, i, s, options, *e)  # noqa: E731
                results[peer] = kept(file, work)
            classes = sorted(path.name for path in (images / "train").iterdir())
            runs.append({"folder": name, "seed": seed, "classes": classes, "results": results})
            print(f"{name}, seed {seed}: " + ", ".join(
                f"{contender} {np.mean(list(correct(result, classes).values())):.3f} in {result['wall']:.0f} s"
                for contender, result in results.items()
            ), file=sys.stderr, flush=True)  # fmt: skip
    contenders = ["darkroom", *options.peers]
    folders = list(dict.fromkeys(run["folder"] for run in runs))
    rows = [row(folder, [run for run in runs if run["folder"] == folder], name) for folder in folders for name in contenders]
    if len(folders) > 1:
        rows += [row("all", runs, name) for name in contenders]
    settings = {peer: {key: runs[0]["results"][peer][key] for key in ("settings", "versions")} for peer in options.peers}
    best = {f"{run['folder']} {run['seed']}": run["results"]["darkroom"]["best"] for run in runs}
    report(options.name, rows, {"options": vars(options), "settings": settings, "selected": best})


if __name__ == "__main__":
    main()
