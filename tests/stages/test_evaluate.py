"""The stages `evaluate` and `diagnose`: their outputs, and the numbers of images, the origin and the links of a report."""

from __future__ import annotations

import hashlib
import subprocess
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import yaml

from darkroom.config import params
from darkroom.config.params import read_yaml
from darkroom.data import manifest
from darkroom.data.manifest import Row
from darkroom.evaluation import cross_validation, diagnostics_file, leaderboard, metrics_io
from darkroom.evaluation.evaluated import Split
from darkroom.models import checkpoint
from darkroom.models.architectures.compact import Compact
from darkroom.models.base import Network, Preprocessing
from darkroom.models.checkpoint import Checkpoint
from darkroom.models.specs import CompactSpec
from darkroom.stages import diagnose, evaluate, evaluation_report
from tests.conftest import ROOT


def test_files_are_counted_by_class_and_split():
    """Accepted files count by class and split, quarantined ones apart."""
    rows = [Row(label=label, split=split) for label, split in (("a", "train"), ("a", "test"), ("b", "test"))]
    rows.append(Row(label="b", status="quarantined"))
    counts = evaluation_report._counts(Counter((row.label, row.split, row.status) for row in rows))
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


def test_the_stages_write_every_output_of_the_graph(tmp_path, values, monkeypatch, capsys):
    """From ingested arrays and one checkpoint they write all outputs of dvc.yaml, and remove the old beyond.json."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DARKROOM_TRACKING", "off")
    values["backbones"] = []
    values["diagnose"] |= {"robustness_images": 1, "views": "none"}
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
    paths = {"ingested": ingested, "models": Path("models"), "cost": Path("models/cost"), "reports": Path("reports")}
    stages = read_yaml(ROOT / "dvc.yaml")["stages"]
    for name, run in (("evaluate", partial(evaluate.run, folds=folds)), ("diagnose", diagnose.run)):
        stage = stages[name]
        outputs = [*stage["outs"], *stage.get("metrics", []), *(path for plot in stage["plots"] for path in plot)]
        assert not any(Path(path).exists() for path in outputs), "no other stage writes them"
        run(**paths)
        assert [path for path in outputs if not Path(path).exists()] == []
    assert not Path("reports/beyond.json").exists()
    metrics, _ = metrics_io.read_both(Path("reports/metrics.json"), Path("reports/details.json"))
    assert set(metrics.models) == {"baseline", metrics_io.PIXEL_BASELINE}
    assert metrics_io.read(Path("reports/diagnostics.json"), diagnostics_file.Diagnostics).model == "baseline"
    areas = {row.model: row.aurc for row in leaderboard.read(Path("reports/leaderboard.csv"))}
    assert areas == {name: figures.aurc for name, figures in metrics.models.items()}
    assert None not in areas.values()
    printed = capsys.readouterr().out
    assert "→ baseline" in printed
    assert "reports/report.html" in printed


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
