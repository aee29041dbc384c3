"""`reports/report.html`: one self-contained page that says which model won, how sure that is, and where it fails."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from darkroom.core import charts, pages
from darkroom.core.errors import printable
from darkroom.evaluation import cost
from darkroom.evaluation.metrics import REFERENCE
from darkroom.evaluation.report import explorer, sprites, verdict

LIMIT = 4_900_000  # bytes of the page
SHOWN = 24  # pictures of a gallery; heat maps
MATRIX = 150  # classes of the confusions, those with most mistakes
PAIRS, SLICES, LABELS = 12, 12, 24  # lines that are shown of what may be long
KINDS = {"reference": "pixels alone", "ensemble": "ensemble", "views": "views averaged"}


@dataclass(frozen=True)
class Heat:
    """Test image number `image` under its heat map, for the class that the model said, as a WebP file."""

    image: int
    overlay: bytes = field(repr=False)


@dataclass(frozen=True)
class Findings:
    """All that the page shows.

    `metrics`, `details`, `beyond` are the JSON files of that name (`beyond` may be empty), `rows` the leaderboard with its costs,
    `issues` the lines of label_issues.csv, `histories` the learning curves by model. `images` are rows of the manifest for
    the test images, `pixels` (N, S, S, 3) uint8 and `labels` (N,) their arrays, `answers` (N, C) what each model said of them,
    `pictures` other images by path (S, S, 3). `heats` come with the name of their `method`. `made` says what the page was made of.
    """

    metrics: Mapping[str, Any]
    details: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    histories: Mapping[str, Sequence[Mapping[str, str]]]
    images: Sequence[Mapping[str, Any]] = field(repr=False)
    pixels: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)
    answers: Mapping[str, np.ndarray] = field(repr=False)
    data: Mapping[str, Any]
    params: Mapping[str, Any]
    beyond: Mapping[str, Any] = field(default_factory=dict)
    issues: Sequence[Mapping[str, Any]] = ()
    pictures: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)
    heats: Sequence[Heat] = ()
    method: str = ""
    made: Mapping[str, str] = field(default_factory=dict)


def page(found: Findings) -> str:
    """Return the page: at most `LIMIT` bytes, the same for the same findings."""
    best, classes = found.metrics["best"], found.details["classes"]
    headline, sentences = verdict.sentences(found.metrics, found.details)
    matrix = np.array(found.details["models"][best]["confusion_matrix"])
    shown = _worst(matrix, MATRIX)
    colours = {name: number for number, name in enumerate([best, *(name for name in found.histories if name != best)])}
    explored = explorer.explore(best, found.answers, found.labels, found.images, classes)
    script = pages.text("evaluation/report", "report.js.j2")
    values = {
        "best": best, "classes": classes, "headline": headline, "sentences": sentences, "batch": cost.BATCH,
        "metrics": found.metrics, "figures": found.metrics["models"], "chosen": found.metrics["models"][best],
        "rows": [_row(place, row, found) for place, row in enumerate(found.rows, 1)], "compared": _compared(found),
        "per_class": _classes(found.details["models"][best]["per_class"]), "colours": colours,
        "matrix": _shaded(matrix, shown), "shown": shown,
        "absent": [name for name in classes if not found.details["models"][best]["per_class"][name]["support"]],
        "unsaid": [name for name, column in zip(classes, matrix.sum(0), strict=True) if not column],
        "reliability": [
            charts.reliability(title, found.details["models"][best][key])
            for title, key in (("before calibration", "bins_uncalibrated"), ("after calibration", "bins"))
        ],
        "beyond": found.beyond, "robustness": _robustness(found), "slices": _slices(found.beyond.get("slices", ())),
        "heats": _heats(found, best), "method": found.method, "galleries": _galleries(found),
        "confused": found.beyond.get("confused", ())[:PAIRS], "issues": _issues(found), "issues_total": len(found.issues),
        "curves": _curves(found.histories, colours), "costs": _costs(found), "data": found.data, "params": found.params,
        "made": found.made, "source": printable(str(found.params["ingest"]["source"])), "spread": len(shown) > 24,
        "pixelated": found.pixels.shape[1] < sprites.SMALL, "script": script, "digest": digest(script),
    }  # fmt: skip
    explored.content["shown"] = shown
    bare = _rendered(values, explored.content, [])
    most = LIMIT - len(bare.encode()) - 7 * len(explored.chosen) - 2000
    content, made = explored.with_pictures(found.pixels, most)
    return _rendered(values, content, made.uris)


def digest(script: str) -> str:
    """Return what a content security policy calls the script of a page by."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _rendered(values: Mapping[str, Any], content: Mapping[str, Any], sheets: Sequence[str]) -> str:
    held = content.get("held", 0)
    return pages.render(
        "evaluation/report", "report.html.j2", **values, content=explorer.embedded(content), sheets=sheets, held=held
    )


def _row(place: int, row: Mapping[str, Any], found: Findings) -> dict[str, Any]:
    """Return a line of the leaderboard, with its figures and how it compares with the best."""
    name, best = row["model"], found.metrics["best"]
    figures = _figures(name, found)
    made = {"rank": place, "kind": KINDS.get(row.get("kind") or (REFERENCE if name == REFERENCE else ""), ""), "figures": figures}
    made["interval"] = figures.get("intervals", {}).get("accuracy")
    made["ece"] = figures.get("calibration", figures).get("ece")
    pair = verdict.between([*found.details["pairs"], *found.beyond.get("pairs", ())], name, best) if name != best else None
    if pair:
        difference, low, high, p = verdict.comparison(pair, name)
        made |= {"difference": difference, "low": low, "high": high, "p": verdict.spoken(p), "sure": p < verdict.SURE}
    return {**row, **made}


def _figures(name: str, found: Findings) -> Mapping[str, Any]:
    """Return the figures of a line of the leaderboard; those of ensembles and views are in beyond.json."""
    return found.metrics["models"].get(name) or found.beyond.get("ensembles", {}).get(name, {})


def _compared(found: Findings) -> dict[str, Any]:
    shown = []
    for row in found.rows:
        figures = _figures(row["model"], found)
        low, high = figures.get("intervals", {}).get("accuracy") or (None, None)
        shown.append(charts.Dot(row["model"], float(row["accuracy"]), low, high, chosen=row["model"] == found.metrics["best"]))
    return charts.dots(shown, "test accuracy")


def _classes(per_class: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the classes, weakest first; those without test images at the end, for nothing is known of them."""
    return sorted(per_class.items(), key=lambda item: (not item[1]["support"], item[1]["f1"], item[0]))


def _worst(matrix: np.ndarray, most: int) -> list[int]:
    """Return at most `most` classes in their order: those that are most often in a mistake, of counts (C, C)."""
    lost = matrix.sum(0) + matrix.sum(1) - 2 * matrix.diagonal()
    return sorted(np.argsort(-lost, kind="stable")[:most].tolist())


def _shaded(matrix: np.ndarray, shown: Sequence[int]) -> list[list[tuple[int, str]]]:
    """Return the counts between these classes, each with its share of the class's images, which decides how dark the cell is."""
    total = matrix.sum(1)
    return [[(int(matrix[i, j]), f"{matrix[i, j] / max(total[i], 1):.2f}") for j in shown] for i in shown]


def _robustness(found: Findings) -> list[str]:
    made = []
    for name, corruption in found.beyond.get("robustness", {}).get("corruptions", {}).items():
        clean = found.beyond["robustness"]
        series = {
            found.metrics["best"]: [(0.0, clean["accuracy"]), *((i, v) for i, v in enumerate(corruption["accuracy"], 1))],
            REFERENCE: [(0.0, clean["reference_accuracy"]), *((i, v) for i, v in enumerate(corruption["reference"], 1))],
        }
        title = name.replace("_", " ")
        made.append(charts.lines(title, series, "severity", {found.metrics["best"]: 0, REFERENCE: charts.SERIES - 1}, floor=0.0))
    return made


def _slices(slices: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    shown = [
        charts.Dot(
            f"{item['column']}: {item['value']}", item["accuracy"], item["low"], item["high"],
            f"{item['images']} images, others {item['rest']:.1%}, {verdict.spoken(item['p_holm'])}", item["p_holm"] < verdict.SURE,
        )
        for item in slices[:SLICES]
    ]  # fmt: skip
    return charts.dots(shown, "accuracy of slices") if shown else None


def _heats(found: Findings, best: str) -> dict[bool, list[dict[str, Any]]]:
    """Return pictures with their heat maps, by whether the model was right."""
    classes, said = found.details["classes"], found.answers[best]
    made: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
    for item in found.heats:
        label, predicted = int(found.labels[item.image]), int(said[item.image].argmax())
        pixels = found.pixels[item.image]
        made[label == predicted].append({
            "path": printable(found.images[item.image]["path"]), "label": classes[label], "predicted": classes[predicted],
            "confidence": float(said[item.image].max()), "given": float(said[item.image, label]),
            "picture": pages.picture(pixels), "heat": f"data:image/webp;base64,{base64.b64encode(item.overlay).decode()}",
        })  # fmt: skip
    made[False].sort(key=lambda row: (-row["confidence"], row["path"]))
    return made


def _galleries(found: Findings) -> list[dict[str, Any]]:
    """Return the images that every model gets wrong, each with its picture."""
    where = {image["path"]: i for i, image in enumerate(found.images)}
    return [
        {**row, "path": printable(row["path"]), "picture": pages.picture(found.pixels[where[row["path"]]])}
        for row in found.beyond.get("always_wrong", ())[:SHOWN] if row["path"] in where
    ]  # fmt: skip


def _issues(found: Findings) -> list[dict[str, Any]]:
    shown = []
    for row in found.issues[:LABELS]:
        pixels = found.pictures.get(row["path"])
        shown.append({**row, "path": printable(row["path"]), "picture": "" if pixels is None else pages.picture(pixels)})
    return shown


def _curves(histories: Mapping[str, Sequence[Mapping[str, str]]], colours: Mapping[str, int]) -> list[str]:
    def series(key: str) -> dict[str, list[tuple[float, float]]]:
        return {
            name: [(float(row["epoch"]), float(row[key])) for row in history]
            for name, history in histories.items() if history and all(row.get(key) for row in history)
        }  # fmt: skip

    accuracy = charts.lines("validation accuracy", series("val_accuracy"), "epoch", colours)
    losses = (("validation loss", "val_loss"), ("training loss", "train_loss"))
    return [accuracy, *(charts.lines(title, series(key), "epoch", colours, shares=False, log=True) for title, key in losses)]


def _costs(found: Findings) -> list[str]:
    best = found.metrics["best"]

    def points(of: Mapping[str, float | None]) -> list[tuple[str, str, float, float, bool]]:
        return [
            (str(place), row["model"], float(of.get(row["model"]) or 0), float(row["accuracy"]), row["model"] == best)
            for place, row in enumerate(found.rows, 1)
        ]

    figures = {**found.beyond.get("ensembles", {}), **found.metrics["models"]}
    kinds: dict[str, tuple[str, dict[str, float | None]]] = {
        "time of one image": ("milliseconds", {row["model"]: row.get("ms_p50") for row in found.rows}),
        "multiply-adds of one image": ("multiply-adds", {name: item.get("multiply_adds") for name, item in figures.items()}),
        "time of training": ("seconds", {row["model"]: row.get("train_seconds") for row in found.rows}),
    }
    return [charts.scatter(title, unit, points(of)) for title, (unit, of) in kinds.items()]
