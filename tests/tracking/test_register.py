"""The stage `register`, with a registry that is kept in memory."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from darkroom import cli
from darkroom.core.errors import WorkspaceError
from darkroom.data.manifest import read_images
from darkroom.evaluation import leaderboard, metrics_io, predictions
from darkroom.stages import champion_comparison, int8_program, other_project, register, version_files
from darkroom.tracking import entities, home, records, registry
from tests.conftest import ROOT
from tests.evaluation import example_report

CLASSES = ("cat", "dog")


class Registry:
    """What `tracking.registry` does, without MLflow."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.versions_, self.champion_is, self.verdicts, self.lines = folder, {}, "", [], []

    def register(self, name, checkpoint, package, sha256, tags, description):
        version = next((v for v, item in self.versions_.items() if item.sha256 == sha256), "")
        assert bool(version) != (package / "packaged").exists()
        number = version or str(len(self.versions_) + 1)
        registered = registry.Version(number, tags[registry.MODEL], sha256, not version, created_at=float(number), tags=tags)
        if not version:
            self.versions_[registered.version] = registered
            shutil.copytree(checkpoint, self.folder / registered.version / "checkpoint")
            shutil.copytree(package / registry.EVALUATION, self.folder / registered.version / registry.EVALUATION)
        return registered

    def champion(self, name):
        return self.versions_.get(self.champion_is)

    def promote(self, name, version, why, by="register"):
        self.lines.append(registry.Promotion(len(self.versions_) + 0.5, version, self.champion_is, why, by))
        self.champion_is = version

    def ledger(self, name):
        return self.lines

    def describe(self, name, version, tags, description):
        self.verdicts.append(tags[entities.VERDICT])
        self.tags, self.description = tags, description

    def versions(self, name):
        return list(self.versions_.values())

    def fetch(self, name, version):
        return self.folder / version


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(records, "start_uploader", lambda: None)
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    fake = Registry(tmp_path / "registry")
    for name in ("register", "champion", "promote", "describe", "versions", "fetch", "ledger"):
        monkeypatch.setattr(registry, name, getattr(fake, name))

    def write_package(checkpoint, ingested, folder, refuse):
        (folder / "packaged").touch()
        return {}

    monkeypatch.setattr(version_files, "write_package", write_package)
    return fake


def evaluated(
    right: float,
    seed: int = 0,
    images: range = range(200),
    classes: tuple[str, ...] = CLASSES,
    val_right: float = 0.9,
    size: int = 1,
    train: range = range(1000, 1010),
) -> None:
    """Write what `evaluate` and `ingest` leave for a model that is right this often: half the images are val, half test.

    The first images are the wrong ones; `images` are the numbers that are their hashes, and `size` of them are a group.
    """
    labels = np.arange(len(images)) % len(classes)
    split = np.array(["val", "test"])[np.arange(len(images)) // 2 % 2]
    rows = [*images, *train]
    Path("data/ingested").mkdir(parents=True, exist_ok=True)
    manifest = {
        "path": [f"{i}.png" for i in rows], "sha256": [f"s{i}" for i in rows], "pixel_hash": [f"p{i}" for i in rows],
        "split": [*split, *["train"] * len(train)], "status": ["accepted"] * len(rows), "group": [f"g{i // size}" for i in rows],
    }  # fmt: skip
    pq.write_table(pa.table(manifest), "data/ingested/manifest.parquet")
    Path("data/ingested/classes.json").write_text(json.dumps(classes))
    probabilities = {}
    for name, share in (("val", val_right), ("test", right)):
        truth = labels[split == name]
        predicted = np.where(np.arange(len(truth)) < round((1 - share) * len(truth)), (truth + 1) % len(classes), truth)
        probabilities[name] = np.full((len(truth), len(classes)), 0.05)
        probabilities[name][np.arange(len(truth)), predicted] = 0.95
    Path("reports").mkdir(exist_ok=True)
    split_labels = {name: labels[split == name] for name in ("val", "test")}
    ingested = read_images(Path("data/ingested/manifest.parquet"))
    images = {split: list(map(asdict, rows)) for split, rows in ingested.items()}
    predictions.write(Path("reports/predictions.parquet"), images, {"baseline": probabilities}, split_labels, classes)
    costs = {"parameters": 1, "ms_per_image": 2.0, "train_seconds": 1}
    row = leaderboard.Row(model="baseline", kind="model", accuracy=right, macro_f1=right, **costs)
    leaderboard.write(Path("reports/leaderboard.csv"), [row])
    metrics, _ = example_report.results(classes, split_labels["test"], {"baseline": probabilities["test"]})
    figures = metrics.best_figures.model_copy(update={"accuracy": right, "val_accuracy": val_right, "macro_f1": right})
    metrics_io.write(Path("reports/metrics.json"), metrics.model_copy(update={"models": {"baseline": figures}}))
    Path("models/baseline").mkdir(parents=True, exist_ok=True)
    Path("models/baseline/model.json").write_text(json.dumps({"classes": classes, "seed": seed}))
    Path("models/baseline/model.safetensors").write_bytes(b"0" * 3_000_000)


def run() -> dict:
    register.run(Path("data/ingested"), Path("reports"), Path("models"), Path("reports/promotion.json"))
    return json.loads(Path("reports/promotion.json").read_text())


def params(**values: object) -> None:
    text = Path("params.yaml").read_text().splitlines()
    for key, value in values.items():
        text = [f"  {key}: {value}" if line.startswith(f"  {key}:") else line for line in text]
    Path("params.yaml").write_text("\n".join(text) + "\n")


def vetoes(decision: dict) -> list[str]:
    return [check["name"] for check in decision["verdict"]["checks"] if not check["passed"]]


def test_the_first_model_becomes_champion_and_a_worse_one_does_not(place, capsys):
    """Without a champion the absolute checks decide; then a worse model stays challenger, and a better one takes over."""
    evaluated(0.9)
    first = run()
    assert (first["promoted"], first["registered"]["aliases"]) == (True, ["challenger", "champion"])
    assert "version 1 is the champion, the first one" in capsys.readouterr().out
    evaluated(0.6, seed=1)
    second = run()
    assert not second["promoted"]
    assert vetoes(second) == [
        "calibration", "accuracy against the champion", "macro F1 against the champion", "every class", "better than the champion",
    ]  # fmt: skip
    assert place.champion_is == "1"
    out = capsys.readouterr().out
    assert "VETO    test accuracy differs by -0.3000" in out
    assert "darkroom promote 2" in out
    evaluated(0.95, seed=2)
    third = run()
    assert third["promoted"]
    assert place.champion_is == "3"
    assert place.verdicts == ["passed", "vetoed", "passed"]
    again = run()
    assert (again["verdict"], again["registered"]["aliases"]) == (None, ["challenger", "champion"])


def test_the_page_of_a_version_tells_what_it_is(place):
    """The description of a version has every check, the digest and sizes of its data, its classes, its row of the
    leaderboard, and what its ONNX file takes and gives; the tags have the data too."""
    evaluated(0.6)
    decision = run()
    for check in decision["verdict"]["checks"]:
        assert f"| {'passed' if check['passed'] else '**veto**'} | {check['name']} | {check['message']} |" in place.description
    digest = hashlib.md5(Path("data/ingested/manifest.parquet").read_bytes()).hexdigest()
    for text in (digest, "10 train, 100 val, 100 test", "cat, dog", "| baseline | 0.6000 |", "32 × 32", "(N, 2)"):
        assert text in place.description
    assert place.tags.items() >= {"data_digest": digest, "data_images": "10 train, 100 val, 100 test", "data_classes": "2"}.items()


def test_a_description_fits(place):
    """However many classes and checks there are, MLflow can store the description."""
    evaluated(0.9, classes=("cat", "dog", *(f"{'x' * 400}{i}" for i in range(30))))
    run()
    assert len(place.description) <= 5000


@pytest.mark.parametrize("promote", ["manual", "never"])
def test_a_person_decides_if_they_said_so(place, capsys, promote):
    """With `manual` and `never` nothing is promoted, whatever the checks say."""
    params(promote=promote)
    evaluated(0.9)
    assert not run()["promoted"]
    assert place.champion_is == ""
    out = capsys.readouterr().out
    assert f"register.promote is {promote}" in out
    assert "darkroom promote 1" in out


def test_an_experiment_registers_a_challenger(place, monkeypatch, capsys):
    """In a DVC experiment nothing becomes the champion, neither the first model nor a better one; the output says who can."""
    monkeypatch.setenv("DVC_EXP_NAME", "tidy-owl")
    evaluated(0.9)
    decision = run()
    assert (decision["promoted"], decision["registered"]["aliases"], place.champion_is) == (False, ["challenger"], "")
    assert decision["verdict"]["passed"]
    out = capsys.readouterr().out
    assert "the DVC experiment tidy-owl promotes nothing; there is no champion; `darkroom promote 1` makes" in out


def test_a_tie_keeps_the_champion(place, capsys):
    """A model that is as good as the champion stays challenger."""
    evaluated(0.9)
    run()
    evaluated(0.9, seed=1)
    assert vetoes(run()) == ["better than the champion"]
    assert place.champion_is == "1"
    assert "a tie keeps the champion" in capsys.readouterr().out


def test_a_checkout_brings_no_champion_back(place, capsys):
    """A version that was replaced, by the gate or by a person, is registered again without becoming the champion."""
    evaluated(0.9)
    run()
    evaluated(0.95, seed=1)
    run()
    registry.promote("darkroom", "1", "worse on owls", by="rollback")
    capsys.readouterr()
    evaluated(0.95, seed=1)  # the checkout of the better one
    decision = run()
    assert decision["verdict"]["passed"]
    assert (decision["promoted"], place.champion_is) == (False, "1")
    out = capsys.readouterr().out
    assert "version 2 was the champion until" in out
    assert "when version 1 replaced it by rollback" in out
    assert "`darkroom promote 2` makes" in out


def test_what_a_person_chose_is_not_undone(place, capsys):
    """A version that existed when a person chose the champion stays challenger, though it passes; a later one may replace it."""
    evaluated(0.9)
    run()
    evaluated(0.8, seed=1)
    run()
    params(promote="manual")
    evaluated(0.95, seed=2)
    run()
    registry.promote("darkroom", "2", "smaller", by="promote")
    params(promote="gate")
    assert not run()["promoted"]
    assert "version 3 existed when a person made version 2 the champion by promote" in capsys.readouterr().out
    evaluated(0.95, seed=3)
    assert run()["promoted"]
    assert place.champion_is == "4"


def test_images_of_a_learnt_group_are_not_fresh(place):
    """An image whose group the champion has learnt does not count, though no other image has its pixels."""
    evaluated(0.9)
    run()
    learnt = place.folder / "1" / registry.EVALUATION / champion_comparison.TRAINED
    learnt.write_text("p2\np4\np1000\n", encoding="utf-8")
    (learnt.parent / champion_comparison.SELECTED).write_text("", encoding="utf-8")
    evaluated(0.95, seed=1, size=4)
    figures = {check["name"]: check["figures"] for check in run()["verdict"]["checks"]}
    # p2 and p4 lie in the groups of images 0 to 3 and 4 to 7; of either, two are validation and two test images
    assert figures["accuracy against the champion"]["images"] == 96
    assert figures["validation"]["images"] == 96


def test_any_evaluated_model_is_registered_by_hand(place, capsys, monkeypatch):
    """`darkroom register MODEL` makes a model a version, the challenger, with its verdict; a person promotes it."""
    evaluated(0.9)
    arguments = ["--ingested", "data/ingested", "--reports", "reports", "--models", "models"]
    for number, name in enumerate(("baseline", "models/baseline", "./models/baseline/")):
        assert cli.main(["register", name, "--json", *arguments]) == 0
        captured = capsys.readouterr()
        decision = json.loads(captured.out)
        assert (decision["model"], decision["promoted"]) == ("baseline", False)
        assert decision["registered"] == {"name": "darkroom", "version": "1", "aliases": ["challenger"]}
        assert decision["verdict"]["passed"]
        assert ("new version 1" if number == 0 else "existing version 1") in captured.err
        assert "a person registered it, who decides; there is no champion; `darkroom promote 1` makes" in captured.err
    assert place.champion_is == ""
    assert not Path("reports/promotion.json").exists()
    monkeypatch.setenv("DARKROOM_TRACKING", "off")
    assert cli.main(["register", "baseline", *arguments]) == 2
    assert "DARKROOM_TRACKING is off" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        (["baselin"], 'did you mean "baseline"'),
        (["pixel_baseline"], "name one of baseline"),
        (["baseline", "--out", "x.json"], "exclude each other"),
        (["--json"], "--json needs MODEL"),
    ],
)
def test_what_cannot_be_registered_has_a_remedy(place, arguments, fact, capsys):
    """A model that is not evaluated, and options of the stage beside a model, are mistakes with a remedy."""
    evaluated(0.9)
    paths = ["--ingested", "data/ingested", "--reports", "reports", "--models", "models"]
    assert cli.main(["register", *arguments, *paths]) == 2
    assert fact in capsys.readouterr().err
    assert not place.versions_


def test_figures_of_older_models_are_not_registered(place, capsys):
    """Where a model was trained again since the evaluation, its figures are of another one: `register MODEL` refuses."""
    evaluated(0.9)
    stages = {
        "baseline": {"cmd": "x", "outs": [{"path": "models/baseline", "md5": "b"}]},
        "evaluate": {"cmd": "x", "deps": [{"path": "models/baseline", "md5": "a"}], "outs": []},
    }
    Path("dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": stages}))
    paths = ["--ingested", "data/ingested", "--reports", "reports", "--models", "models"]
    assert cli.main(["register", "baseline", *paths]) == 2
    assert "`dvc repro evaluate`" in capsys.readouterr().err


def test_limits_of_params_are_checked(place):
    """Latency and size have limits where params.yaml sets them."""
    params(max_milliseconds=1.5, max_megabytes=2.5)
    evaluated(0.9)
    assert vetoes(run()) == ["latency", "size"]


def test_a_champion_is_asked_about_images_that_it_has_not_seen(place, monkeypatch, capsys):
    """Where the split has other images, the champion answers anew; images that it was trained or chosen on do not count."""
    from darkroom.inference import classifier, held_out

    evaluated(0.9)
    run()
    kept = place.folder / "1" / registry.EVALUATION
    assert (kept / champion_comparison.TRAINED).read_text().split() == [f"p{i}" for i in range(1000, 1010)]
    assert len((kept / champion_comparison.SELECTED).read_text().split()) == 100
    evaluated(0.9, seed=1, images=range(2, 202))
    scored_paths = []

    def score(model, ingested, ingest, paths):
        scored_paths.append(paths)
        return {split: np.tile([0.6, 0.4], (len(names), 1)) for split, names in paths.items()}

    monkeypatch.setattr(held_out, "predict_splits", score)
    monkeypatch.setattr(classifier.Classifier, "load", lambda folder: None)
    decision = run()
    assert [len(paths) for paths in scored_paths[0].values()] == [100, 100]
    assert "predicts again" in capsys.readouterr().out
    assert decision["promoted"]  # the champion says cat to everything
    compared = next(c for c in decision["verdict"]["checks"] if c["name"] == "accuracy against the champion")
    assert compared["figures"]["images"] == 2  # the others are the champion's validation images


def test_classes_that_came_or_went(place, monkeypatch):
    """A champion is right only where it names the class; what it says of a class that is gone is wrong."""
    outputs = np.array([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7]])
    aligned = champion_comparison._align(outputs, ("cow", "cat", "dog"), ("cat", "dog", "owl"))
    assert aligned.tolist() == [[0.2, 0.1, 0, 0.7], [0.2, 0.7, 0, 0.1]]
    evaluated(0.9, classes=("cat", "cow"))
    run()
    evaluated(0.9, seed=1)
    decision = run()
    assert decision["promoted"]
    assert decision["verdict"]["champion"] == "version 1, baseline"


@pytest.mark.parametrize("content", ['{"schema": 1, "best": "baseline", "models": {}}', '{"schema": 3}', "[]", "{"])
def test_figures_of_another_darkroom_are_refused(place, content):
    """Figures that are of another schema, or damaged, are a mistake with a remedy."""
    evaluated(0.9)
    Path("reports/metrics.json").write_text(content)
    with pytest.raises(WorkspaceError) as error:
        run()
    assert "dvc repro evaluate" in error.value.remedy
    assert not place.versions_


def test_without_tracking_nothing_is_registered(place, monkeypatch, capsys):
    """DARKROOM_TRACKING=off registers nothing and says so."""
    monkeypatch.setenv("DARKROOM_TRACKING", "off")
    evaluated(0.9)
    assert run()["registered"] is None
    assert not place.versions_


@pytest.mark.parametrize("accepted", [True, False])
def test_an_int8_program_is_asked_for(place, monkeypatch, capsys, accepted):
    """`register.quantize: int8` puts the verdict into promotion.json and a tag; the version has the alias int8 where it is
    accepted, and a version that exists is stored again with the verdict, once. Without it promotion.json has no such block."""
    tags, aliases, added, stored = {}, {}, [], []
    expected = {"accepted": accepted, "message": "2 times as fast"}

    def add(checkpoint, ingested, package, refuse, limits):
        added.append(limits.quantize)
        (package / registry.EVALUATION / entities.INT8_VERDICT).write_text(json.dumps(expected))
        return expected

    def store_again(name, version, checkpoint, package):
        stored.append(version)
        shutil.copytree(package / registry.EVALUATION, place.folder / version / registry.EVALUATION, dirs_exist_ok=True)
        (package / "packaged").unlink()

    monkeypatch.setattr(int8_program, "add", add)
    monkeypatch.setattr(registry, "tag", lambda name, version, key, value: tags.update({(version, key): value}))
    monkeypatch.setattr(registry, "set_alias", lambda name, version, alias: aliases.update({alias: version}))
    monkeypatch.setattr(registry, "store_again", store_again)
    monkeypatch.setattr(registry, "is_stored", lambda *_: True)
    evaluated(0.9)
    assert "int8" not in run()
    assert not added
    params(quantize="int8")
    assert run()["int8"] == (again := run())["int8"] == expected
    assert again["registered"]["aliases"] == ["challenger", "champion", *["int8"] * accepted]
    assert "int8: 2 times as fast" in capsys.readouterr().out
    assert (added, stored) == (["int8"], ["1"])
    assert tags == {("1", entities.INT8): entities.ACCEPTED if accepted else entities.REFUSED}
    assert aliases == ({entities.INT8_ALIAS: "1"} if accepted else {})


def test_another_projects_model_is_not_overwritten(place, monkeypatch, capsys):
    """On a server that projects share, a model whose versions were trained on none of these images is refused before anything is
    registered, with the remedy; a name of its own, or the tag of this folder, lets it pass. A clone shares images, and passes."""
    monkeypatch.setattr(home, "uri", lambda: "http://mlflow.example.org")
    evaluated(0.9)
    run()
    place.versions_["1"].tags[entities.PROJECT] = "another-12345678"
    evaluated(0.95, seed=1)  # a clone
    assert run()["promoted"]
    place.versions_["2"].tags[entities.PROJECT] = "another-12345678"
    evaluated(0.99, seed=2, images=range(5000, 5200), train=range(7000, 7010))
    with pytest.raises(WorkspaceError, match="another project's, another-12345678") as refused:
        run()
    assert "register.name=darkroom-" in refused.value.remedy
    assert (len(place.versions_), place.champion_is) == (2, "2")
    place.versions_["2"].tags[entities.PROJECT] = other_project.identity()
    monkeypatch.setattr(champion_comparison, "_champion_candidate", lambda *_: None)  # its predictions are another test's
    assert run()["registered"]["version"] == "3"
    assert "none of which is here" in capsys.readouterr().out
