"""From an image to the runs and models that saw it, and back, in a real MLflow on SQLite."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from darkroom.cli import main
from darkroom.data.decoding import decode
from darkroom.tracking import entities, pipelines, queries, records, registry, uploader
from darkroom.tracking.lineage import Lineage
from darkroom.tracking.pipelines import Pipeline
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

DVC_YAML = "stages:\n  ingest: {}\n  baseline: {}\n"


def image(name: str, seed: int) -> dict:
    """Write an image and return its row."""
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 20, 3), np.uint8)
    Image.fromarray(pixels).save(name)
    content = Path(name).read_bytes()
    return {
        "path": name, "label": "cat", "status": "accepted", "reason": "", "sha256": hashlib.sha256(content).hexdigest(),
        "pixel_hash": decode(content, 8, "stretch", (0, 0, 0)).pixel_hash,
    }  # fmt: skip


def pipeline(monkeypatch, key: str, ingest: list[dict] | None, baseline: str) -> None:
    """Act as a pipeline in which `baseline` ran, and `ingest` too where its rows are passed."""
    own = Pipeline(key, f"pipeline {key}", pid=2**22 + 1, started=1.0, command=["dvc", "repro"])
    monkeypatch.setattr(pipelines, "current", lambda: own)
    if ingest is not None:
        with records.start_run("ingest", {}, []) as run:
            pq.write_table(pa.Table.from_pylist(ingest), "manifest.parquet")
            run.log_artifact(Path("manifest.parquet"))
    with records.start_run("baseline", {"baseline.lr": "0.1"}, []) as run:
        run.set_tags({registry.SHA: baseline, registry.MODEL: "baseline"})
        run.log_checkpoint("baseline", baseline, {"best_val_accuracy": 0.5, "parameters": 3}, 1)
    lines = [
        f"  {stage}:\n    outs: [{{path: {stage}, md5: '{md5}'}}]" for stage, md5 in (("ingest", "1"), ("baseline", baseline[:8]))
    ]
    Path("dvc.lock").write_text("stages:\n" + "\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("lineage")


@pytest.fixture(autouse=True)
def here(place, monkeypatch, own_mlflow):
    monkeypatch.chdir(place)
    versions = [registry.Version("1", "baseline", "a" * 64), registry.Version("2", "baseline", "b" * 64, aliases=["champion"])]
    versions += [registry.Version("3", "baseline", "c" * 64, tags={entities.DATA: "7 images of elsewhere"})]
    monkeypatch.setattr(registry, "versions", lambda name: versions)
    if not (place / "params.yaml").exists():
        shutil.copy(ROOT / "params.yaml", place)
        (place / "dvc.yaml").write_text(DVC_YAML)
        rows = [image(f"{i}.png", i) | {"split": split} for i, split in enumerate(("train", "train", "val", "test"))]
        pipeline(monkeypatch, "one", rows, "a" * 64)
        uploader.upload(until_empty=True)
        pipeline(monkeypatch, "two", None, "b" * 64)  # the same data
        uploader.upload(until_empty=True)
        rows[0] |= {"status": "quarantined", "reason": "conflict", "split": ""}
        pipeline(monkeypatch, "three", rows[:3], "d" * 64)
        uploader.upload(until_empty=True)


def lineage(capsys, *arguments: str, code: int = 0) -> dict:
    assert main(["lineage", *arguments, "--json"]) == code
    out = capsys.readouterr().out
    return json.loads(out) if out else {}


@pytest.mark.parametrize("by", ["file", "copy", "sha256", "pixels", "beginning"])
def test_an_image_leads_to_its_runs_and_models(place, capsys, by):
    """By its file, a copy in another format, or a hash: each ingest run that met it, its split, and who
    learned from that."""
    content = Path("0.png").read_bytes()
    sha256, pixels = hashlib.sha256(content).hexdigest(), decode(content, 8, "stretch", (0, 0, 0)).pixel_hash
    Image.open("0.png").save("copy.webp", lossless=True)
    query = {"file": "0.png", "copy": "copy.webp", "sha256": sha256, "pixels": pixels, "beginning": sha256[:9].upper()}[by]
    sightings = lineage(capsys, query)["sightings"]
    assert [item["splits"] for item in sightings] == [["train"], ["quarantined"]]
    titles = [run["pipeline"].partition(" · ")[2] for run in sightings[0]["runs"]]  # after what changed
    assert [title.partition(",")[0] for title in titles] == ["pipeline one", "pipeline two"]
    assert sightings[0]["versions"] == ["1 (baseline)", "2 (baseline, champion)"]
    assert sightings[1]["rows"][0]["reason"] == "conflict"
    assert sightings[1]["versions"] == []


def test_the_text_tells_how_models_used_an_image(place, capsys):
    """The text names the use of an image: trained on it, chosen on it, or none; without an evaluation, no test is claimed."""
    for name, use in (("1.png", "trained on it: baseline"), ("2.png", "chosen on it"), ("3.png", "  not tested on it: baseline")):
        assert main(["lineage", name]) == 0
        out = capsys.readouterr().out
        assert use in out
        assert "among them: version 1 (baseline), 2 (baseline, champion)" in out
    main(["lineage", "0.png"])
    assert "quarantined: conflict, cat, as 0.png" in capsys.readouterr().out
    image("new.png", 77)
    main(["lineage", "new.png"])
    out = capsys.readouterr().out
    assert "new.png" in out
    assert "no ingest run in MLflow has read this image" in out
    assert "not known" not in out


@pytest.mark.parametrize(
    ("status", "reused", "tested"), [("FINISHED", "", True), ("FAILED", "", False), ("RUNNING", "", False), ("FINISHED", "e", True)]
)
def test_a_model_is_tested_where_an_evaluation_has_ended(status, reused, tested):
    """A model is tested on the images of its data if `evaluate` has ended in its pipeline, or in one that reused the model; not
    by one that failed or still runs, nor by that of another pipeline."""

    def run(name: str, stage: str, pipeline: str, state: str = "FINISHED", reused: str = "") -> entities.Run:
        tags = {entities.STAGE: stage, entities.PIPELINE: pipeline} | ({entities.REUSED: reused} if reused else {})
        return entities.Run(name, name, state, 1.0, tags=tags)

    trained = run("b", "baseline", "one")
    evaluation = run("v", "evaluate", "two", status, reused)
    others = [run("p1", "pipeline", "one"), run("p2", "pipeline", "two"), trained, evaluation]
    assert not Lineage(others, [], lambda name: None).is_tested(trained)
    same = run("r", "baseline", "two", reused="b")
    assert Lineage([*others, same], [], lambda name: None).is_tested(trained) == tested


def test_what_mlflow_lacks_is_not_denied(place, capsys, monkeypatch):
    """Without the manifests it is said that the images of these runs are not known."""
    monkeypatch.setattr(queries, "manifest", lambda run_id: None)
    assert main(["lineage", "0.png"]) == 0
    assert "not known: the images of 2 ingest runs" in capsys.readouterr().out


def test_a_version_leads_to_its_images(place, capsys):
    """A version, by number, alias or address, names its run, its pipeline with what that reused, and every
    image."""
    for query in ("2", "champion", "models:/darkroom/2", "models:/darkroom@champion"):
        result = lineage(capsys, query)
        assert result["title"] == "version 2 of darkroom, baseline, champion"
        assert {stage["stage"]: stage["reused"] for stage in result["stages"]} == {"ingest": True, "baseline": False}
        assert [(row["path"], row["split"]) for row in result["images"]] == [
            ("0.png", "train"), ("1.png", "train"), ("2.png", "val"), ("3.png", "test"),
        ]  # fmt: skip
    main(["lineage", "2", "--images"])
    out = capsys.readouterr().out
    assert "2 train, 1 val, 1 test" in out
    assert out.count(".png") == 4
    assert main(["lineage", "3"]) == 2
    assert "7 images of elsewhere" in capsys.readouterr().err


def test_a_run_leads_to_its_versions(place, capsys):
    """A run, by the beginning of its id, names the versions that it made and the pipelines that reused it."""
    runs = queries.runs()
    ingest = next(run for run in runs if run.stage == "ingest" and not run.reused)
    result = lineage(capsys, ingest.id[:10])
    assert result["run"] == ingest.id
    assert [name.partition(" · ")[2].partition(",")[0] for name in result["reused_in"]] == ["pipeline two"]
    reused = next(run for run in runs if run.reused)
    assert lineage(capsys, reused.id)["run"] == ingest.id
    trained = next(run for run in runs if run.tags.get(registry.SHA) == "a" * 64)
    assert lineage(capsys, trained.id)["versions"] == ["1 (baseline)"]


def test_what_is_nothing_is_named(place, capsys):
    """What is neither file, hash, run nor version is a mistake with a remedy; a hash that nobody knows is no
    mistake."""
    assert main(["lineage", "no-such.png"]) == 2
    assert "remedy: name an image file" in capsys.readouterr().err
    assert lineage(capsys, "0123456789")["sightings"] == []


def test_compare_finds_what_is_asked_for(place, capsys):
    """Stages, tags and metrics choose the runs; the page and a run of its own hold the table; what is not
    there is named."""
    assert main(["compare", "--stage", "baseline", "--tag", "baseline.lr=0.1"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[2].split()[:3] == ["baseline", "1", "0.5000"]  # three runs with the same seeds are copies
    assert Path("reports/compare.html").read_text().startswith("<!doctype html>")
    uploader.upload(until_empty=True)
    (recorded,) = [run for run in queries.runs() if run.stage == "compare"]
    assert recorded.params["compare.stage"] == "baseline"
    assert main(["compare", "--stage", "basline"]) == 2
    assert 'did you mean "baseline"' in capsys.readouterr().err
    assert main(["compare", "--stage", "baseline", "--metric", "best_val_acuracy"]) == 2
    assert 'did you mean "best_val_accuracy"' in capsys.readouterr().err
    assert main(["compare", "--experiment", "nothing"]) == 2
    assert "no experiment nothing" in capsys.readouterr().err
    assert main(["compare", "--tag", "x"]) == 2
    assert main(["compare", "--first", "vgg"]) == 2
    assert 'no group is called "vgg"' in capsys.readouterr().err
