"""Compare rules that choose the best of a run's models: how much test accuracy is lost on small folders.

    python benchmarks/selection.py train OUT --data DATA [--folders 40] [--cross-validation 5 --largest 100]
    python benchmarks/selection.py judge OUT
    python benchmarks/selection.py coverage OUT --data DATA

train  draws folders of 50 to 400 images (at most `--largest`) and 2 to 10 classes from the flowers, alpacas, ants and bees,
       and MNIST in DATA (the archives, `mnist` and `weights`), and runs ingest, augment, baseline, embed, transfer and
       finetune (MobileNetV2, SqueezeNet 1.1) on each. All images of the set that were not drawn are its test images. A folder
       that is there is kept.
judge  prints the regret of each rule: test accuracy of the best model minus that of the chosen one, in points, mean and worst;
       and in how many folders the models that are not distinguished from the chosen one include the best. The highest of five
       accuracies on some hundred images is high by chance, too: in the last column half of the test images choose the best
       model, and the other half measures both (mean of 50 divisions)
coverage  prints how often the intervals of a five-fold cross-validation hold the accuracy that models trained on other folders of
       this size have, on average, on other images (regression on MobileNetV2's embeddings, 200 drawn folders of each size)
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import os
import random
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import yaml
from labels import embed as embed_images
from sklearn.linear_model import LogisticRegression

from darkroom.config import params, recipes
from darkroom.core import tables
from darkroom.data import arrays, manifest
from darkroom.data.decoding import decode
from darkroom.evaluation import cross_validation, folds, selection, significance
from darkroom.evaluation.selection import Judged
from darkroom.inference.classifier import Classifier
from darkroom.models.probabilities import softmax
from darkroom.stages import augment, baseline, cross_validate, embed, finetune, ingest, transfer, weights

ROOT = Path(__file__).parents[1]
BACKBONES = ("mobilenet_v2", "squeezenet1_1")
SIZES = (50, 100, 200, 400)
FOLDS, DRAWS = 5, 200
TEST = 100  # images of a class at most
SETS: Mapping[str, tuple[str, tuple[int, ...], int]] = {  # folder of classes, numbers of classes, largest number of images
    "flowers": ("flowers", (2, 3, 5), 400),
    "alpaca": ("alpaca", (2,), 200),
    "hymenoptera": ("hymenoptera_data", (2,), 200),
    "mnist": ("mnist", (2, 5, 10), 400),
}


@dataclass(frozen=True)
class Outputs:
    """Logits (N, C) by model and split, temperatures by model, labels (N,) by split, groups (N,) of `val`; and what the
    models of other folds predict.
    """

    name: str
    logits: dict[str, dict[str, np.ndarray]]
    temperatures: dict[str, float]
    labels: dict[str, np.ndarray]
    groups: np.ndarray
    out_of_fold: Judged | None


def unpack(data: Path, scratch: Path) -> dict[str, dict[str, list[Path]]]:
    """Return the image files of each set by class."""
    files: dict[str, dict[str, list[Path]]] = {}
    for name, (folder, _, _) in SETS.items():
        place = scratch / folder
        if name == "mnist" and not place.exists():
            images, labels = (read_idx(data / "mnist" / f"t10k-{kind}.gz") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"))
            for i in range(4000):
                file = place / f"digit {labels[i]}" / f"{i:05}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(file), images[i])
        elif not place.exists():
            with tarfile.open(data / f"{name}.tar") as archive:
                archive.extractall(scratch, filter="data")
        files[name] = {}
        for file in sorted(place.rglob("*")):
            if file.suffix.lower() in (".jpg", ".jpeg", ".png"):
                files[name].setdefault(file.parent.name, []).append(file)
    return files


def read_idx(path: Path) -> np.ndarray:
    with gzip.open(path) as file:
        content = file.read()
    shape = np.frombuffer(content, ">i4", content[3], 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(shape)


def draw(files: Mapping[str, list[Path]], classes: int, images: int, place: Path, rng: random.Random) -> None:
    """Write a folder of `images` training images of some classes, and the other images as its test split."""
    per_class = images // classes
    for name in rng.sample(sorted(files), classes):
        drawn = rng.sample(files[name], len(files[name]))
        for split, chosen in (("train", drawn[:per_class]), ("test", drawn[per_class : per_class + TEST])):
            (place / split / name).mkdir(parents=True)
            for file in chosen:
                shutil.copy(file, place / split / name)


def train(place: Path, weights_folder: Path, seed: int, size: int, fold_count: int) -> None:
    """Run the stages in the workspace `place`, whose images are in `photos`."""
    settings = [
        f"backbones=[{','.join(BACKBONES)}]", f"ingest.image_size={size}", f"ingest.seed={seed}", "augment.views=4",
        "compute.threads=1", f"cross_validation={fold_count}", f"compute.seed={seed}",
    ]  # fmt: skip
    content = params.read_yaml(ROOT / "params.yaml")
    for key, value in recipes.requested_values("photos", str(place / "photos"), str(weights_folder), settings).items():
        section, _, name = key.partition(".")
        content = {**content, section: {**content[section], name: value} if name else value}
    with contextlib.chdir(place), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        Path("params.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        data, views, classes, cost = Path("ingested"), Path("augmented"), Path("ingested/classes.json"), Path("cost.json")
        ingest.run(data, Path("data.html"), Path("fixes.csv"))
        augment.run(data / "train", views)
        baseline.run(views, data / "val", classes, Path("models/baseline"), cost)
        for name in BACKBONES:
            file, origin, embedded = Path(f"weights/{name}.safetensors"), Path(f"weights/{name}.json"), Path(f"embedded/{name}")
            weights.run(name, file, origin)
            embed.run(name, views, data / "val", classes, file, origin, embedded, cost)
            transfer.run(name, embedded, Path(f"models/transfer/{name}"), cost)
            finetune.run(name, views, data / "val", Path(f"models/transfer/{name}"), Path(f"models/finetune/{name}"), cost)
        cross_validate.run(data, Path("models"), Path("folds"))


def outputs(place: Path, out: Path) -> None:
    """Write logits and labels of a trained workspace into an .npz file."""
    names = ["baseline", *(f"{stage}/{name}" for stage in ("transfer", "finetune") for name in BACKBONES)]
    splits = {split: arrays.load_split(place / "ingested" / split) for split in ("val", "test")}
    content: dict[str, np.ndarray] = {f"labels {split}": labels for split, (_, labels) in splits.items()}
    rows = manifest.read_images(place / "ingested" / "manifest.parquet")["val"]
    content["groups"] = np.array([row.group for row in rows])
    for name in names:
        classifier = Classifier.load(place / "models" / name)
        content[f"temperature {name}"] = np.array(classifier.checkpoint.temperature)
        content |= {f"{split} {name}": classifier.logits(images) for split, (images, _) in splits.items()}
    if (place / "folds" / cross_validation.PREDICTIONS).exists():
        judged = cross_validation.read_predictions(place / "folds", names, arrays.load_classes(place / "ingested" / "classes.json"))
        content |= {"fold labels": judged.labels, "fold groups": judged.groups}
        content |= {f"fold {name}": probabilities for name, probabilities in judged.probabilities.items()}
    np.savez(out, **content)


def read(path: Path) -> Outputs:
    with np.load(path) as content:
        models = [key.removeprefix("temperature ") for key in content if key.startswith("temperature ")]
        logits = {name: {split: content[f"{split} {name}"] for split in ("val", "test")} for name in models}
        temperatures = {name: float(content[f"temperature {name}"]) for name in models}
        labels = {split: content[f"labels {split}"] for split in ("val", "test")}
        judged = None
        if "fold labels" in content:
            probabilities = {name: content[f"fold {name}"] for name in models}
            classes = tuple(map(str, range(probabilities["baseline"].shape[1])))
            judged = Judged(content["fold labels"], content["fold groups"], probabilities, classes)
        return Outputs(path.stem, logits, temperatures, labels, content["groups"], judged)


def rules() -> dict[str, Callable[[Judged], str]]:
    """Return the rules by their names; `select` is Darkroom's, by each of its metrics."""

    def best_by(metric: str) -> Callable[[Judged], str]:
        return lambda judged: max(
            judged.probabilities, key=lambda name: selection.score(metric, judged.probabilities[name], judged.labels)
        )

    def within(judged: Judged, deviations: float) -> str:
        """Return the best of the first kind that has a model within so many deviations of the leader."""
        losses = {name: score("log_loss", judged, name) for name in judged.probabilities}
        leader = max(losses, key=losses.__getitem__)
        compared = {name: selection.exchange("log_loss", judged, leader, name) for name in losses}
        near = [name for name, item in compared.items() if item.lead <= deviations * item.deviation + 1e-12]
        return min(near, key=lambda name: (selection.KINDS.index(name.partition("/")[0]), -losses[name]))

    def favourite(judged: Judged) -> str:
        tuned = [name for name in judged.probabilities if name.startswith("finetune/")]
        return max(tuned, key=lambda name: score("log_loss", judged, name))

    def score(metric: str, judged: Judged, name: str) -> float:
        return selection.score(metric, judged.probabilities[name], judged.labels)

    metrics = ("log_loss", "accuracy", "macro_f1", "balanced_accuracy")
    return {
        **{f"select: {metric}": lambda judged, metric=metric: selection.select(metric, judged)[0] for metric in metrics},
        **{f"best {metric}": best_by(metric) for metric in metrics},
        **{f"first kind within {n} deviations": lambda judged, n=n: within(judged, n) for n in (0.5, 1.0, 2.0)},
        "fine-tuned, by log loss": favourite,
        "transferred MobileNetV2": lambda judged: "transfer/mobilenet_v2",
    }  # fmt: skip


def judge(out: Path) -> None:
    """Print the regret of every rule over all folders."""
    regrets: dict[str, list[float]] = {}
    halved: dict[str, list[float]] = {}
    included = []
    for path in sorted(out.glob("*.npz")):
        outputs = read(path)
        probabilities = {name: softmax(by["val"], outputs.temperatures[name]) for name, by in outputs.logits.items()}
        classes = tuple(map(str, range(next(iter(probabilities.values())).shape[1])))
        judged = Judged(outputs.labels["val"], outputs.groups, probabilities, classes)
        accuracies = {name: float((by["test"].argmax(1) == outputs.labels["test"]).mean()) for name, by in outputs.logits.items()}
        most = max(accuracies.values())
        correct = {name: by["test"].argmax(1) == outputs.labels["test"] for name, by in outputs.logits.items()}
        chosen = {name: rule(judged) for name, rule in rules().items()}
        if outputs.out_of_fold:
            for metric in ("log_loss", "accuracy"):
                chosen[f"select: {metric}, cross-validated"] = selection.select(metric, outputs.out_of_fold)[0]
        for name, model in chosen.items():
            regrets.setdefault(name, []).append(100 * (most - accuracies[model]))
            halved.setdefault(name, []).append(100 * regret_of_halves(correct, model))
        best, selected = selection.select("log_loss", judged)
        included.append(any(accuracies[name] == most for name in (best, *selected.indistinguishable)))
        figures = "  ".join(f"{name} {accuracy:.3f}" for name, accuracy in accuracies.items())
        print(f"{path.stem}: {len(judged.labels)} val, {len(outputs.labels['test'])} test  {figures}  chosen {best}")
    rows = [
        (
            name,
            f"{np.mean(values):.2f}",
            f"{np.percentile(values, 90):.1f}",
            f"{np.max(values):.1f}",
            f"{np.mean(halved[name]):.2f}",
        )
        for name, values in sorted(regrets.items(), key=lambda item: np.mean(item[1]))
    ]
    header = ("rule", "mean regret", "90%", "worst", "mean of halves")
    tables.show(header, rows, right=header[1:])
    print(f"{len(included)} folders; the best model is the chosen one or not distinguished from it in {sum(included)}")


def regret_of_halves(correct: Mapping[str, np.ndarray], chosen: str) -> float:
    """Return by how much the model that half of the test images choose is better on the other half."""
    rng, regrets = np.random.default_rng(0), []
    for _ in range(50):
        order = rng.permutation(len(correct[chosen]))
        half, other = order[: len(order) // 2], order[len(order) // 2 :]
        best = max(correct, key=lambda name: correct[name][half].mean())
        regrets.append(correct[best][other].mean() - correct[chosen][other].mean())
    return float(np.mean(regrets))


def coverage(data: Path, out: Path) -> None:
    """Print the coverage of the intervals of cross-validation."""
    files = unpack(data, out / "images")
    rows = []
    for name, size, settings in (("flowers", 64, ((2, 50), (2, 100), (5, 100), (5, 300))), ("mnist", 32, ((10, 100), (10, 400)))):
        images, labels = [], []
        for number, (_, own) in enumerate(sorted(files[name].items())):
            contents = [decode(file.read_bytes(), size, "crop", (0, 0, 0)).pixels for file in own[:205]]
            images += [pixels for pixels in contents if pixels is not None]
            labels += [number] * (len(images) - len(labels))
        inputs = embed_images(np.stack(images), out, None, "mobilenet_v2", data / "weights")
        rows += [covered(name, inputs, np.array(labels), classes, count) for classes, count in settings]
    header = ("images", "classes", "training", "accuracy", "covered", "width", "covered without training's variance")
    tables.show(header, rows, right=header[1:])


def covered(name: str, inputs: np.ndarray, labels: np.ndarray, classes: int, count: int) -> tuple[str, ...]:
    """Return the coverage of the interval of the accuracy for folders of `count` images."""
    inputs, labels = inputs[labels < classes], labels[labels < classes]
    intervals, bare, accuracies = [], [], []
    for seed in range(DRAWS):
        rng = np.random.default_rng(seed)
        chosen = np.concatenate([rng.permutation(np.flatnonzero(labels == label))[: count // classes] for label in range(classes)])
        others = np.setdiff1d(np.arange(len(labels)), chosen)
        fold_of = folds.deal(labels[chosen], [str(i) for i in chosen], FOLDS, seed)
        probabilities = np.zeros((len(chosen), classes))
        for fold in range(FOLDS):
            predict = regression(inputs[chosen[fold_of != fold]], labels[chosen[fold_of != fold]])
            probabilities[fold_of == fold] = predict(inputs[chosen[fold_of == fold]])
        accuracies.append(float((predict(inputs[others]).argmax(1) == labels[others]).mean()))
        rows = [SimpleNamespace(group=str(i)) for i in chosen]
        predicted = cross_validation.OutOfFold(rows, labels[chosen], fold_of, {"": probabilities}, tuple(map(str, range(classes))))
        result = cross_validation.summarize(predicted).models[""]
        intervals.append(result.intervals["accuracy"] or (0.0, 1.0))
        bare.append(significance.wilson(result.figures["accuracy"], len(chosen)))
    true = float(np.mean(accuracies))
    covered, without = (np.mean([low <= true <= high for low, high in edges]) for edges in (intervals, bare))
    width = np.mean([high - low for low, high in intervals])
    return name, f"{classes}", f"{count}", f"{true:.3f}", f"{covered:.3f}", f"{width:.3f}", f"{without:.3f}"


def regression(inputs: np.ndarray, labels: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return the probabilities of a logistic regression as a function of inputs (N, D)."""
    mean, std = inputs.mean(0), np.maximum(inputs.std(0), np.sqrt(inputs.var(0).mean()))
    model = LogisticRegression(C=0.01, max_iter=200).fit((inputs - mean) / std, labels)
    return lambda others: model.predict_proba((others - mean) / std)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("train", "judge", "coverage"))
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--folders", type=int, default=40)
    parser.add_argument("--cross-validation", type=int, default=0, help="folds")
    parser.add_argument("--largest", type=int, default=max(SIZES), help="images of a folder; larger ones are left out")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.command == "train":
        train_all(options.data.resolve(), options.out.resolve(), options.folders, options.cross_validation, options.largest)
    elif options.command == "judge":
        judge(options.out)
    else:
        coverage(options.data.resolve(), options.out.resolve())


def train_all(data: Path, out: Path, folders: int, fold_count: int, most: int) -> None:
    files = unpack(data, out / "images")
    os.environ["DARKROOM_TRACKING"] = "off"
    for number in range(folders):
        rng = random.Random(number)
        name = list(SETS)[number % len(SETS)]
        _, class_counts, largest = SETS[name]
        images = rng.choice([size for size in SIZES if size <= largest])
        classes = rng.choice([count for count in class_counts if images // count >= 10])
        path = out / f"{number:02}-{name}-{classes}-{images}.npz"
        if path.exists() or images > most:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            place = Path(scratch)
            draw(files[name], classes, images, place / "photos", rng)
            train(place, data / "weights", number, 32 if name == "mnist" else 64, fold_count)
            outputs(place, path)
        print(path.name, f"{time.process_time():.0f} s of processor time", flush=True)


if __name__ == "__main__":
    main()
