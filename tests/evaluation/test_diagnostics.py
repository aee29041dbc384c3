"""What evaluate finds beyond the average, from arrays and checkpoints to the files."""

from __future__ import annotations

import csv
import json
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from darkroom.config.params import parse
from darkroom.evaluation import diagnostics, leaderboard, metrics
from darkroom.evaluation.pixel_baseline import PixelRegression
from darkroom.inference.classifier import Classifier
from darkroom.models import checkpoint
from darkroom.models.base import Network, Preprocessing
from darkroom.models.checkpoint import Checkpoint
from darkroom.models.compact import Compact, Spec

SHOWN = Preprocessing(16, "crop", (0, 0, 0), (0.5,) * 3, (0.25,) * 3)


def workspace(folder: Path, classes: int, counts: dict[str, int], names: list[str]) -> diagnostics.Evaluated:
    """Write splits, a manifest and untrained models; return what is known once they are scored."""
    rng = np.random.default_rng(0)
    rows, splits = [], {}
    labels_of = tuple(f"c{i:03}" for i in range(classes))
    for split, count in counts.items():
        labels = np.arange(count) % (classes if split == "train" else max(1, classes - 1))  # the last class is missing
        images = rng.integers(0, 256, (count, 16, 16, 3), np.uint8) // 2 + (labels * 100 // classes)[:, None, None, None].astype(
            np.uint8
        )
        splits[split] = images, labels
        (folder / split).mkdir()
        np.save(folder / split / "images.npy", images)
        np.save(folder / split / "labels.npy", labels)
        rows += [
            {"path": f"{split}/{i}.png", "sha256": f"{split}{i}", "group": f"{split}{i}", "split": split, "status": "accepted",
             "label": labels_of[label], "width": 16 + i, "height": 16, "flags": "dark" if i % 2 else "", "camera": "ab"[i % 2]}
            for i, label in enumerate(labels.tolist())
        ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), folder / "manifest.parquet")
    reference = PixelRegression(*splits["train"], classes, 0)
    held = {split: splits[split] for split in ("val", "test")}
    answers = {metrics.REFERENCE: {split: reference.probabilities(images) for split, (images, _) in held.items()}}
    for seed, name in enumerate(names):
        network = Network(Compact(Spec(16, 4), seed), SHOWN, classes, seed)
        (folder / name).mkdir(parents=True)
        described = Checkpoint(name, Spec(16, 4).as_dict(), SHOWN, labels_of, {}, {})
        checkpoint.save(folder / name, described, network.state_dict(), network.parameter_count(), [{"epoch": 1}])
        model = Classifier.load(folder / name)
        answers[name] = {split: model.probabilities(images) for split, (images, _) in held.items()}
    for number, part in enumerate(("baseline", "embed/x", "transfer/x", "finetune/x")):
        (folder / f"cost/{part}.json").parent.mkdir(parents=True, exist_ok=True)
        (folder / f"cost/{part}.json").write_text(json.dumps({"seconds": 2**number}))
    cost = {"parameters": 10, "ms_p50": 1.0, "ms_p95": 2.0, "ms_per_image": 0.5, "images_per_second": 100.0, "train_seconds": 3.0}
    return diagnostics.Evaluated(
        names[0], reference, {split: labels for split, (_, labels) in held.items()}, labels_of, answers,
        {name: {"parameters": 10, "multiply_adds": 1000, "val_accuracy": 0.5} for name in answers},
        [{"model": name, **cost} for name in answers], folder / "cost",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("classes", "counts", "names"),
    [
        (2, {"train": 60, "val": 8, "test": 100}, ["baseline", "transfer/x"]),
        (2, {"train": 4, "val": 1, "test": 1}, ["baseline"]),
        (100, {"train": 100, "val": 99, "test": 99}, ["baseline", "transfer/x", "finetune/x"]),
    ],
)
def test_the_files_are_whole_and_the_same_twice(tmp_path, values, classes, counts, names):
    """Two classes or a hundred, one image of each, one test image, one model: no warning, valid JSON, the same bytes."""
    values["evaluate"]["robustness_images"] = 5
    values["evaluate"]["views"] = "crops"
    values["augment"]["policy"] = "standard"
    settings = parse(values)
    given = workspace(tmp_path, classes, counts, names)
    written = []
    for reports in (tmp_path / "one", tmp_path / "two"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            rows = diagnostics.examine(settings, tmp_path, tmp_path, reports, given)
        written.append([(reports / name).read_bytes() for name in ("beyond.json", "label_issues.csv")])
    assert written[0] == written[1]
    found = json.loads(written[0][0], parse_constant=pytest.fail)
    assert set(found["robustness"]["corruptions"]["fog"]) == {"kind", "accuracy", "reference"}
    assert found["robustness"]["images"] == min(5, counts["test"])
    assert found["robustness"]["of"] == found["counts"]["images"] == counts["test"]
    assert found["labels"]["inputs"] == ("embeddings of transfer/x" if len(names) > 1 else "pixels")
    assert {row["model"] for row in rows} == {"best/views", *(["ensemble/mean", "ensemble/greedy"] if len(names) > 1 else [])}
    views = next(row for row in rows if row["kind"] == "views")
    assert (views["ms_p50"], views["images_per_second"], views["parameters"]) == (12.0, 100 / 12, 10)
    assert found["ensembles"]["best/views"]["multiply_adds"] == 12 * 1000
    assert {(pair["a"], pair["b"]) for pair in found["pairs"]} == {(row["model"], names[0]) for row in rows}
    assert all(pair["p_holm"] >= pair["mcnemar_p"] for pair in found["pairs"])
    if len(names) > 1:
        mean = next(row for row in rows if row["model"] == "ensemble/mean")
        assert mean["parameters"] == 10 * len(names)
        assert mean["train_seconds"] == (15 if "finetune/x" in names else 7)  # what several build on counts once
        assert found["ensembles"]["ensemble/mean"]["members"] == dict.fromkeys(sorted(names), 1)
    if counts["test"] == 100:
        assert {"camera", "flag dark", "size", "aspect"} <= {row["column"] for row in found["slices"]}
    leaderboard.write(tmp_path / "leaderboard.csv", rows)
    with (tmp_path / "leaderboard.csv").open() as file:
        assert [row["kind"] for row in csv.DictReader(file)].count("views") == 1


def test_without_views_there_is_no_row_of_views(tmp_path, values):
    """`mirror` says nothing of characters, which must not be mirrored; one trained model is no ensemble."""
    values["evaluate"] |= {"robustness_images": 1, "views": "mirror"}
    values["augment"]["policy"] = "characters"
    given = workspace(tmp_path, 2, {"train": 20, "val": 4, "test": 4}, ["baseline"])
    assert diagnostics.examine(parse(values), tmp_path, tmp_path, tmp_path / "reports", given) == []
