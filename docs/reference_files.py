"""The page of the output files: what writes each, and its fields as the code has them."""

from __future__ import annotations

import dataclasses
import inspect
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from darkroom.augmentation.storage import Policy
from darkroom.commands.predict import COLUMNS as PREDICTED
from darkroom.config.yaml_files import read_yaml
from darkroom.data import frozen_splits, label_fixes, manifest
from darkroom.data.quarantine_reasons import IGNORE_REASONS, REASONS
from darkroom.evaluation import diagnostics_file, gate, leaderboard, metrics_io, predictions
from darkroom.evaluation.label_issues import LabelIssue
from darkroom.labelling import decisions
from darkroom.models import checkpoint
from darkroom.monitoring import drift, history, prediction_log
from darkroom.stages import ingest, register
from darkroom.studies import summary
from docs.reference_markdown import page, table

OUTPUTS = {  # outputs of dvc.yaml, and what they hold; `{}` stands for a name. Others have it in dvc.yaml, as `desc`
    "data/names.txt": "always the same: the names in params.yaml may become paths",
    "data/backbones": "a file for each backbone, with what decides its network: of one of the project's own the sha256 of its code",
    "data/raw/{}": "a named data set: a folder of classes, or an `.npz`",
    "data/ingested/manifest.parquet": "a row for each file of the source: [columns](#manifestparquet)",
    "data/ingested/quarantine.csv": "the files that cannot be used: [columns](#quarantinecsv)",
    "data/ingested/classes.json": "the class names, in the order of the outputs of models",
    "data/ingested/train": "`images.npy` (N, H, W, 3) uint8 and `labels.npy` (N,) of the split",
    "data/ingested/val": "the same",
    "data/ingested/test": "the same",
    "reports/data.html": "the page of the data ([data.md](../data.md))",
    "data/augmented": "`views.npy` (K, N, H, W, 3) uint8, or `images.npy` with `augment.storage: online`; `labels.npy`, "
    "`preview.png`, [`policy.json`](#policyjson)",
    "models/baseline": "a [checkpoint](#checkpoints): `model.safetensors`, `model.json`, `history.csv`",
    "models/transfer/{}": "a checkpoint",
    "models/finetune/{}": "a checkpoint",
    "models/weights/{}.safetensors": "the weights of a backbone, under torchvision's names",
    "models/weights/{}.json": "where they come from",
    "data/embedded/{}": "embeddings (K, N, D) of the views and of val, the means (N, M) of a feature map, and the backbone as used",
    "models/cost/baseline.json": "`seconds` that the stage took; only `evaluate` and `diagnose` read it",
    "models/cost/embed/{}.json": "the same",
    "models/cost/transfer/{}.json": "the same",
    "models/cost/finetune/{}.json": "the same",
    "reports/cross_validation": "`results.json` ([cross-validation](#cross-validation)), with folds also `predictions.parquet`",
    "reports/metrics.json": "headline figures with intervals: [fields](#metricsjson)",
    "reports/details.json": "figures by class, confusions, pairs of models: [fields](#detailsjson)",
    "reports/diagnostics.json": "corruptions, slices, averaged views, mistakes: [fields](#diagnosticsjson)",
    "reports/label_issues.csv": "labels that may be wrong: [columns](#label_issuescsv)",
    "reports/leaderboard.csv": "a row for each model: [columns](#leaderboardcsv-and-costcsv)",
    "reports/cost.csv": "latency, throughput and training time: [columns](#leaderboardcsv-and-costcsv)",
    "reports/predictions.parquet": "every prediction for validation and test: [columns](#predictionsparquet)",
    "reports/report.html": "the report ([evaluation.md](../evaluation.md#the-report))",
    "reports/plots/confusion.csv": "confusions of the best model, for `dvc plots`",
    "reports/plots/classes.csv": "the recall of each class",
    "reports/plots/reliability.csv": "the reliability curve",
    "reports/plots/robustness.csv": "accuracy on corrupted images by severity",
    "reports/plots/curves": "learning curves, a CSV file for each model",
    "reports/promotion.json": "the decision of `register`: [fields](#promotionjson)",
}
JSON_FILES: dict[str, tuple[Any, ...]] = {
    "metrics.json": (
        metrics_io.Metrics, metrics_io.Selection, metrics_io.ModelMetrics, metrics_io.Calibration,
    ),
    "Cross-validation": (metrics_io.CrossValidation, metrics_io.CrossValidated),
    "details.json": (metrics_io.Details, metrics_io.ModelDetails, metrics_io.ClassMetrics, metrics_io.Bin, metrics_io.Pair,
        metrics_io.Combinations, metrics_io.EnsembleMetrics),
    "diagnostics.json": (
        diagnostics_file.Diagnostics, diagnostics_file.Robustness, diagnostics_file.Corruption, diagnostics_file.Slice,
        diagnostics_file.Counts, diagnostics_file.Mistake, diagnostics_file.ConfusedPair, diagnostics_file.AlwaysWrong,
        diagnostics_file.LabelCheck, diagnostics_file.LearningCurve, diagnostics_file.Accuracies,
    ),
    "promotion.json": (register.Decision, gate.GateResult, gate.Check),
    "policy.json": (Policy,),
}  # fmt: skip
ITEM = re.compile(r"\$\{item\.\w+\}")


def render(root: Path) -> str:
    """Return the page."""
    parts = [
        "Every output of a stage, then the fields of the files that programs may read. Types are those of the code: `float | None`",
        "is a number or null. [evaluation.md](../evaluation.md) has the formulas, [data.md](../data.md) the rules of the data. The",
        "JSON and CSV files are UTF-8. In CSV files a text that a spreadsheet would run as a formula has an apostrophe before it;",
        "`DARKROOM_CSV=raw` leaves it out.",
        "",
        "## Outputs of the stages",
        "",
        *table(("output", "stage", "content"), [(f"`{path.replace('{}', 'NAME')}`", stage, text) for path, stage, text in
                                                outputs(read_yaml(root / "dvc.yaml")["stages"])]),
        "",
        "## manifest.parquet",
        "",
        *_sentence(manifest.ImageFacts, manifest.Row),
        *_arrow(pa.schema([(name, manifest._TYPES[name]) for name in manifest.COLUMNS])),
        "",
        "## quarantine.csv",
        "",
        f"Columns: {_names(ingest.QUARANTINE)}. `reason` is one of",
        "",
        *table(("reason", "meaning", "remedy"), [(f"`{name}`", reason.meaning, reason.remedy) for name, reason in REASONS.items()]),
        "",
        "In the manifest a file can also be `ignored`:",
        "",
        *table(("reason", "meaning"), [(f"`{name}`", meaning) for name, meaning in IGNORE_REASONS.items()]),
    ]  # fmt: skip
    for name, kinds in JSON_FILES.items():
        parts += ["", f"## {name}", "", *_classes(kinds)]
    return page("Output files", [*parts, *_tables(), *_further()])


def _tables() -> list[str]:
    """Return the sections of the tables that `evaluate` writes."""
    types = _fields(leaderboard.Row)
    columns = dict.fromkeys((*leaderboard.COLUMNS, *leaderboard.COSTS))
    rows = [
        (f"`{name}`", f"`{types[name]}`", *("yes" if name in of else "" for of in (leaderboard.COLUMNS, leaderboard.COSTS)))
        for name in columns
    ]
    return [
        "", "## leaderboard.csv and cost.csv", "", *_sentence(leaderboard.Row),
        *table(("column", "type", "leaderboard.csv", "cost.csv"), rows),
        "", "## label_issues.csv", "", *_sentence(LabelIssue), *_table_of(LabelIssue),
        "", "## predictions.parquet", "", "A row for each model and image; a row group has rows of one model. "
        "`probabilities` are in the order of classes.json.", "", *_arrow(_prediction_schema()),
    ]  # fmt: skip


def _further() -> list[str]:
    """Return the sections of checkpoints, of files that a person writes, and of the files of commands."""
    studies = [(f"`{name}`", _names((*summary.RUN, *columns))) for name, columns in summary.COLUMNS.items()]
    return [
        "", "## Checkpoints", "", f"`model.json` (schema {checkpoint.SCHEMA}), with a `checksum` over its other keys:", "",
        *_sentence(checkpoint.Checkpoint), *_table_of(checkpoint.Checkpoint),
        "", "`history.csv` has a row for each epoch, `model.safetensors` the weights.",
        "", "## Inputs that are versioned with the code", "",
        *table(("file", "columns"), [
            ("`data/label_fixes.csv`", _names(label_fixes.COLUMNS)), ("`data/splits.csv`", _names(frozen_splits.COLUMNS)),
            ("`data/label_decisions.jsonl`", _names(field.name for field in dataclasses.fields(decisions.Decision))),
        ]),
        "", "## `darkroom predict --csv`", "", f"Columns: {_names(PREDICTED)}, then the probability of each class under its name.",
        "", "## The log of `darkroom monitor`", "", "`reports/monitoring/log/*.parquet`:", "", *_arrow(prediction_log.SCHEMA),
        "", "`reports/monitoring/history.jsonl` has a line for each check:", "",
        *_classes((history.DriftCheck, history.CheckSettings, drift.DriftTest)),
        "", "## Results of a study", "", "`studies/results/NAME/`, and `cost.csv` in `studies/results/cost/NAME/`:", "",
        *table(("file", "columns"), studies),
    ]  # fmt: skip


def outputs(stages: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield each output of dvc.yaml, with `{}` for the name of an item, its stage, and what it holds: by OUTPUTS, or its `desc`."""
    for stage, content in stages.items():
        for kind in ("outs", "metrics", "plots"):
            for out in content.get(kind, []):
                path, details = (out, {}) if isinstance(out, str) else next(iter(out.items()))
                name = ITEM.sub("{}", path)
                yield name, stage, OUTPUTS.get(name) or details.get("desc", "")


def _prediction_schema() -> pa.Schema:
    """Return the schema of predictions.parquet, as `predictions.write` makes it."""
    row = dict.fromkeys(predictions.IMAGE, "")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "predictions.parquet")
        images, labels = (dict.fromkeys(predictions.HELD_OUT, item) for item in ([row], np.zeros(1, int)))
        predictions.write(path, images, {"model": dict.fromkeys(predictions.HELD_OUT, np.ones((1, 2)) / 2)}, labels, ("a", "b"))
        return pq.read_schema(path)


def _classes(kinds: tuple[Any, ...]) -> list[str]:
    """Return the fields of classes, the first of which is the file's content."""
    parts: list[str] = []
    for kind in kinds:
        parts += [*([] if kind is kinds[0] else ["", f"**{kind.__name__}**", ""]), *_sentence(kind), *_table_of(kind)]
    return parts


def _table_of(kind: Any) -> list[str]:
    return table(("field", "type"), [(f"`{name}`", f"`{type_}`") for name, type_ in _fields(kind).items()])


def _fields(kind: Any) -> dict[str, str]:
    """Return the fields of a class and their types as they are written."""
    fields: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        annotations = inspect.get_annotations(base)
        own = {name: str(type_) for name, type_ in annotations.items() if not str(type_).startswith("ClassVar")}
        fields |= {name: _plain(type_) for name, type_ in own.items() if not name.startswith(("_", "model_config"))}
    schema = {"schema": "int"} if hasattr(kind, "SCHEMA") else {}
    return schema | fields


def _plain(type_: str) -> str:
    """Return a type without constraints, and with words for the aliases of this project."""
    type_ = re.sub(r"Annotated\[(\w+), .*\]", r"\1", type_)
    return type_.replace("ModelName", "str").replace("Range", "[float, float] | None").replace("Classes", "list[str]")


def _sentence(*kinds: Any) -> list[str]:
    """Return the docstrings of classes as a paragraph."""
    texts = [" ".join(inspect.cleandoc(kind.__dict__.get("__doc__") or "").split()) for kind in kinds]
    return [" ".join(texts), ""]


def _arrow(schema: pa.Schema) -> list[str]:
    return table(("column", "type"), [(f"`{field.name}`", f"`{field.type}`") for field in schema])


def _names(columns: Any) -> str:
    return ", ".join(f"`{name}`" for name in columns)
