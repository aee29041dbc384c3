"""Diagnostics of the best model, from arrays and classifiers to their contents."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from darkroom.config.params import parse
from darkroom.core.kept_results import KeptResults
from darkroom.evaluation import combinations, diagnostics
from darkroom.evaluation.diagnostics import Corruptions
from darkroom.evaluation.evaluated import Evaluated, Split
from darkroom.evaluation.leaderboard import Row
from darkroom.evaluation.metrics_io import PIXEL_BASELINE, ModelMetrics
from darkroom.evaluation.pixel_baseline import PixelRegression
from darkroom.evaluation.scoring import Truth
from darkroom.inference.classifier import Classifier
from darkroom.models.architectures.compact import Compact
from darkroom.models.base import Network, Preprocessing
from darkroom.models.checkpoint import Checkpoint
from darkroom.models.specs import CompactSpec

SHOWN = Preprocessing(16, "crop", (0, 0, 0), (0.5,) * 3, (0.25,) * 3)
COSTS = {"ms_p50": 1.0, "ms_p95": 2.0, "ms_per_image": 0.5, "images_per_second": 100.0, "train_seconds": 3.0}


def darker(images, name, seed):
    """Yield two severities of a corruption."""
    for severity in (1, 2):
        yield images // (severity + 1)


CORRUPTIONS = Corruptions({"dark": "light", "night": "light"}, 2, darker)


def evaluated(classes: int, counts: dict[str, int], names: list[str]) -> tuple[Evaluated, PixelRegression, dict[str, Classifier]]:
    """Return evaluated untrained models, the pixel baseline, and the classifiers by name; the last class has no val and test
    images."""
    rng = np.random.default_rng(0)
    class_names = tuple(f"c{i:03}" for i in range(classes))
    splits = {}
    for name, count in counts.items():
        labels = np.arange(count) % (classes if name == "train" else max(1, classes - 1))
        shades = (labels * 100 // classes)[:, None, None, None].astype(np.uint8)
        images = rng.integers(0, 256, (count, 16, 16, 3), np.uint8) // 2 + shades
        rows = [
            {"path": f"{name}/{i}.png", "sha256": f"{name}{i}", "group": f"{name}{i}", "split": name, "status": "accepted",
             "label": class_names[label], "width": 16 + i, "height": 16, "flags": ("dark",) * (i % 2), "camera": "ab"[i % 2]}
            for i, label in enumerate(labels.tolist())
        ]  # fmt: skip
        splits[name] = Split(images, labels, rows)
    baseline = PixelRegression(splits["train"].images, splits["train"].labels, classes, 0)
    predict = {PIXEL_BASELINE: baseline.probabilities}
    classifiers = {}
    for seed, name in enumerate(names):
        network = Network(Compact(CompactSpec(16, 4), seed), SHOWN, classes, seed)
        classifiers[name] = Classifier(network, Checkpoint(name, CompactSpec(16, 4), SHOWN, class_names, {}, {}))
        predict[name] = classifiers[name].probabilities
    held_out = {name: splits[name] for name in ("val", "test")}
    metrics = ModelMetrics.model_construct(parameters=10, multiply_adds=1000, val_log_loss=0.5)
    row = Row(model="", kind="model", accuracy=0.5, macro_f1=0.5, parameters=10, **COSTS)
    truth = Truth(
        {name: split.labels for name, split in held_out.items()}, np.array([row["group"] for row in splits["test"].rows]),
        class_names, 3,
    )  # fmt: skip
    return Evaluated(
        names[0], truth, splits,
        {name: {split: function(item.images) for split, item in held_out.items()} for name, function in predict.items()},
        dict.fromkeys(predict, metrics), [row.model_copy(update={"model": name}) for name in predict],
    ), baseline, classifiers  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("classes", "counts", "names"),
    [
        (2, {"train": 60, "val": 8, "test": 100}, ["baseline", "transfer/x"]),
        (2, {"train": 4, "val": 1, "test": 1}, ["baseline"]),
        (30, {"train": 60, "val": 29, "test": 29}, ["baseline", "transfer/x", "finetune/x"]),
    ],
)
def test_diagnostics_are_complete_and_repeatable(values, classes, counts, names):
    """Two classes or thirty, one image of each, one test image, one model: no warning, and twice the same."""
    values["diagnose"] |= {"robustness_images": 5, "views": "crops"}
    models, baseline, classifiers = evaluated(classes, counts, names)
    results = []
    for _ in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            results.append(diagnostics.diagnose(
                parse(values), models, baseline, classifiers.__getitem__, CORRUPTIONS, True, lambda members: 7.0 * len(members)
            ))  # fmt: skip
    assert results[0] == results[1]
    content, rows = results[0].diagnostics, results[0].rows
    assert content.robustness.images == min(5, counts["test"])
    assert content.robustness.of == content.counts.images == counts["test"]
    assert [len(item.accuracy) for item in content.robustness.corruptions.values()] == [2, 2]
    assert content.labels.inputs == ("embeddings of transfer/x" if len(names) > 1 else "pixels")
    assert [(row.model, row.kind) for row in rows] == [("best/views", "views")]
    views = rows[0]
    assert (views.ms_p50, views.images_per_second, views.parameters) == (12.0, 100 / 12, 10)
    assert content.views.models["best/views"].multiply_adds == 12 * 1000
    assert [(pair.a, pair.b) for pair in content.views.pairs] == [("best/views", names[0])]
    if counts["test"] == 100:
        assert {"camera", "flag dark", "size", "aspect"} <= {item.column for item in content.slices}


def test_without_views_there_is_no_row_of_views(values):
    """Images that must not be mirrored have no mirrored views; one trained model is no ensemble."""
    values["diagnose"] |= {"robustness_images": 1, "views": "mirror"}
    models, baseline, classifiers = evaluated(2, {"train": 20, "val": 4, "test": 4}, ["baseline"])
    diagnosed = diagnostics.diagnose(
        parse(values), models, baseline, classifiers.__getitem__, CORRUPTIONS, False, lambda members: 0.0
    )
    assert diagnosed.rows == []
    assert diagnosed.diagnostics.views.models == {}


def test_ensembles_are_of_the_trained_models():
    """Their costs are the sums over their members, each is compared with the best model, and one model is no ensemble."""
    names = ["baseline", "transfer/x", "finetune/x"]
    models, _, _ = evaluated(2, {"train": 20, "val": 8, "test": 30}, names)
    combined = combinations.of_models(models, lambda members: 7.0 * len(members))
    content, rows = combined.content, {row.model: row for row in combined.rows}
    assert set(rows) == set(content.models) == {"ensemble/mean", "ensemble/greedy"}
    assert (rows["ensemble/mean"].parameters, rows["ensemble/mean"].train_seconds) == (10 * len(names), 7.0 * len(names))
    assert content.models["ensemble/mean"].members == dict.fromkeys(sorted(names), 1)
    assert {(pair.a, pair.b) for pair in content.pairs} == {(name, "baseline") for name in rows}
    assert all(pair.p_holm >= pair.mcnemar_p for pair in content.pairs)
    alone, _, _ = evaluated(2, {"train": 20, "val": 4, "test": 4}, ["baseline"])
    assert combinations.of_models(alone, lambda members: 0.0).rows == []


@pytest.mark.slow
def test_what_was_computed_before_a_kill_is_not_computed_again(values, tmp_path, monkeypatch):
    """Killed after any array that is kept, the diagnostics are those of an undisturbed run, and each array is computed once."""
    monkeypatch.chdir(tmp_path)
    values["diagnose"] |= {"robustness_images": 2, "views": "mirror"}
    models, baseline, classifiers = evaluated(2, {"train": 20, "val": 4, "test": 6}, ["baseline", "transfer/x"])
    computed: list[str] = []

    def diagnose(kept: KeptResults, kill_at: int) -> diagnostics.Diagnosed:
        def keep(key, compute):
            def count():
                if len(computed) >= kill_at:
                    raise KeyboardInterrupt
                arrays = compute()
                computed.append(key)
                return arrays

            return kept.get(key, count)

        return diagnostics.diagnose(
            parse(values), models, baseline, classifiers.__getitem__, CORRUPTIONS, True, lambda members: 1.0, keep
        )

    expected = diagnose(KeptResults("undisturbed", "a"), 1000)
    keys = sorted(computed)
    assert len(keys) == len(set(keys)) == 8  # views of two splits, embeddings, labels, two corruptions, two learning curves
    computed.clear()
    for kill_at in range(1, 8):
        with pytest.raises(KeyboardInterrupt):
            diagnose(KeptResults("killed", "a"), kill_at)
    assert diagnose(KeptResults("killed", "a"), 1000) == expected
    assert sorted(computed) == keys
