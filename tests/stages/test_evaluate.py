"""The stage `evaluate`: numbers of images, the outputs of a network, and the origin and links of a report."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import numpy as np
import yaml

from darkroom.config import params
from darkroom.config.params import read_yaml
from darkroom.data import manifest
from darkroom.data.manifest import Row
from darkroom.evaluation import cross_validation, leaderboard, metrics_io
from darkroom.evaluation.diagnostics import Split
from darkroom.inference.classifier import Classifier
from darkroom.models import checkpoint
from darkroom.models.architectures.compact import Compact
from darkroom.models.base import Network, Preprocessing
from darkroom.models.checkpoint import Checkpoint
from darkroom.models.specs import CompactSpec
from darkroom.stages import evaluate, evaluation_report
from tests.conftest import ROOT


def test_files_are_counted_by_class_and_split():
    """Accepted files count by class and split, quarantined ones apart."""
    rows = [Row(label=label, split=split) for label, split in (("a", "train"), ("a", "test"), ("b", "test"))]
    rows.append(Row(label="b", status="quarantined"))
    counts = evaluation_report._counts(rows)
    assert (counts["files"], counts["quarantined"]) == (4, 1)
    assert (counts["train"], counts["val"], counts["test"]) == (1, 0, 2)
    assert counts["classes"] == {"a": {"train": 1, "val": 0, "test": 1}, "b": {"train": 0, "val": 0, "test": 1}}


def test_the_origin_tells_whether_changes_are_committed(tmp_path, monkeypatch):
    """A clean tree is named by its commit; changes of the project that are not committed are named too."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("a: 1")
    (tmp_path / "manifest.parquet").write_bytes(b"manifest")
    for arguments in (["init", "-q"], ["add", "params.yaml"], ["commit", "-qm", "run"]):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout[:12]
    origin = evaluation_report._origin(tmp_path / "manifest.parquet")
    assert origin["commit"] == head
    assert "not committed" not in origin
    assert hashlib.md5(b"manifest").hexdigest() in origin["data version"]
    (tmp_path / "params.yaml").write_text("a: 2")
    assert "params.yaml" in evaluation_report._origin(tmp_path / "manifest.parquet")["not committed"]


def test_the_stage_writes_every_output_of_the_graph(tmp_path, values, monkeypatch, capsys):
    """From ingested arrays and one checkpoint it writes all outputs of dvc.yaml, and removes the old beyond.json."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DARKROOM_TRACKING", "off")
    values["backbones"] = []
    values["evaluate"] |= {"robustness_images": 1, "views": "none"}
    Path("params.yaml").write_text(yaml.safe_dump(values))
    ingested, rng, rows = Path("data/ingested"), np.random.default_rng(0), []
    for split, count in (("train", 20), ("val", 6), ("test", 8)):
        labels = np.arange(count) % 2
        images = rng.integers(0, 256, (count, 16, 16, 3), np.uint8)
        (ingested / split).mkdir(parents=True)
        np.save(ingested / split / "images.npy", images)
        np.save(ingested / split / "labels.npy", labels)
        for i, label in enumerate(labels.tolist()):
            name = f"{split}{i}"
            rows.append(
                Row(path=name, label="ab"[label], split=split, sha256=name, pixel_hash=name, group=name, width=16, height=16)
            )
    manifest.write(ingested / "manifest.parquet", rows)
    (ingested / "classes.json").write_text('["a", "b"]')
    shown, spec = Preprocessing(16, "crop", (0, 0, 0), (0.5,) * 3, (0.25,) * 3), CompactSpec(16, 4)
    network = Network(Compact(spec, 0), shown, 2, 0)
    Path("models/baseline").mkdir(parents=True)
    history = [{"epoch": 1, "train_loss": 0.7, "val_loss": 0.7, "val_accuracy": 0.5}]
    described = Checkpoint("baseline", spec, shown, ("a", "b"), {}, {})
    checkpoint.save(Path("models/baseline"), described, network.state_dict(), network.parameter_count(), history)
    (folds := Path("reports/cross_validation")).mkdir(parents=True)
    Path("reports/beyond.json").touch()
    cross_validation.write(folds, None)
    evaluate.run(ingested, Path("models"), Path("models/cost"), folds, Path("reports"))
    stage = read_yaml(ROOT / "dvc.yaml")["stages"]["evaluate"]
    outputs = [*stage["outs"], *stage["metrics"], *(path for plot in stage["plots"] for path in plot)]
    assert [path for path in outputs if not Path(path).exists()] == []
    assert not Path("reports/beyond.json").exists()
    metrics, _ = metrics_io.read_both(Path("reports/metrics.json"), Path("reports/details.json"))
    assert set(metrics.models) == {"baseline", metrics_io.PIXEL_BASELINE}
    assert metrics_io.read(Path("reports/diagnostics.json"), metrics_io.Diagnostics).model == "baseline"
    assert {row.model for row in leaderboard.read(Path("reports/leaderboard.csv"))} == set(metrics.models)
    assert "→ baseline" in capsys.readouterr().out


def test_one_pass_gives_logits_and_embeddings():
    """The logits are those of the classifier, and the embeddings those of the requested images, whatever the batches."""
    shown, spec = Preprocessing(16, "crop", (0, 0, 0), (0.5,) * 3, (0.25,) * 3), CompactSpec(16, 4)
    classifier = Classifier(Network(Compact(spec, 0), shown, 2, 0), Checkpoint("baseline", spec, shown, ("a", "b"), {}, {}))
    images = np.random.default_rng(0).integers(0, 256, (10, 16, 16, 3), np.uint8)
    mapped = np.array([0, 3, 4, 9])
    val, test, embeddings = evaluate._outputs(classifier, images[:3], images, mapped, 4)
    assert np.array_equal(val, classifier.logits(images[:3], 4))
    assert np.array_equal(test, classifier.logits(images, 4))
    assert np.array_equal(embeddings, classifier.embed(images, 4)[0][mapped])


def test_links_lead_to_a_folder_alone(tmp_path, monkeypatch):
    """The way to the images is relative to the report; there is none where they are in an archive or gone."""
    monkeypatch.chdir(tmp_path)
    content = read_yaml(ROOT / "params.yaml")
    settings = params.parse(content | {"ingest": content["ingest"] | {"source": "my photos"}})
    test = Split(np.empty(0), np.empty(0), [{"path": "cat/1.jpg"}])
    (tmp_path / "my photos").touch()  # an archive
    assert evaluation_report._folder(settings, test, Path("reports/report.html")) is None
    (tmp_path / "my photos").unlink()
    assert evaluation_report._folder(settings, test, Path("reports/report.html")) is None
    (tmp_path / "my photos/cat").mkdir(parents=True)
    (tmp_path / "my photos/cat/1.jpg").touch()
    assert evaluation_report._folder(settings, test, Path("reports/report.html")) == "../my photos"
