"""The whole pipeline on 300 digits, with the real DVC, MLflow and Prefect. The tests build on each other, in order."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.pipeline
STAGES = [
    "ingest",
    "augment",
    "baseline",
    *(f"{stage}@mobilenet_v3_small" for stage in ("weights", "embed", "transfer", "finetune")),
]
STAGES += ["evaluate", "register"]
AFTER_TRANSFER = ["transfer@mobilenet_v3_small", "finetune@mobilenet_v3_small", "evaluate", "register"]


class Workspace:
    def __init__(self, place: Path) -> None:
        self.place = place
        off = (
            "MLFLOW_TRACKING_URI",
            "MLFLOW_REGISTRY_URI",
            "DARKROOM_TRACKING",
            "DARKROOM_PIPELINE",
            "DVC_STAGE",
            "PREFECT_API_URL",
        )
        self.environment = {key: value for key, value in os.environ.items() if key not in off}
        self.environment |= {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PREFECT_HOME": str(place.parent / "prefect"), "DO_NOT_TRACK": "1", "PYTHONPATH": str(place / "src"),
        }  # fmt: skip

    def run(self, *command: str, code: int | None = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=self.place,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
        text = done.stdout + done.stderr
        assert code is None or done.returncode == code, text[-4000:]
        return text

    def repro(self, code: int | None = 0) -> str:
        return self.run("dvc", "repro", code=code)

    def set(self, *values: str) -> None:
        self.run("darkroom", "recipe", "--set", *values)

    def runs(self) -> list[dict]:
        """Return every run in MLflow."""
        code = (
            "import json; from darkroom.tracking import reading\n"
            "print(json.dumps([{'id': r.id, 'stage': r.stage, 'status': r.status, 'started': r.started, 'params': r.params, "
            "'tags': r.tags, 'reused': r.reused or None} for r in reading.runs()]))"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=self.place, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1])

    def models(self) -> dict[str, bytes]:
        return {str(path.relative_to(self.place)): path.read_bytes() for path in sorted(self.place.glob("models/**/*.safetensors"))}

    def read(self, path: str) -> bytes:
        return (self.place / path).read_bytes()


def ran(output: str) -> list[str]:
    return re.findall(r"Running stage '([^']+)'", output)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Workspace:
    """Return a project whose source is 300 digits and whose networks are random and hardly trained."""
    from darkroom.data.datasets import Wanted, write_digits

    place = tmp_path_factory.mktemp("end to end") / "project"
    for name in ("src", "pipelines", "recipes"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("dvc.yaml", "params.yaml", ".dvcignore", ".gitignore"):
        shutil.copy(ROOT / name, place)
    for name in ("data/label_fixes.csv", "models/transfer/.keep", "models/finetune/.keep"):
        (place / name).parent.mkdir(parents=True)
        shutil.copy(ROOT / name, place / name)
    write_digits(place / "own digits", Wanted())
    for path in sorted((place / "own digits").rglob("*.png")):
        if int(path.stem) >= 300:
            path.unlink()
    made = Workspace(place)
    subprocess.run(["git", "init", "-q"], cwd=place, check=True)
    made.run("dvc", "init", "-q")
    made.set(
        "fetch.datasets=[]", "ingest.source=own digits", "backbones=[mobilenet_v3_small]", "weights.source=random",
        "augment.views=2", "baseline.epochs=2", "transfer.epochs=5", "finetune.epochs=2",
        "evaluate.robustness_images=10",
    )  # fmt: skip
    return made


def test_from_a_folder_to_a_registered_model(workspace):
    """One `dvc repro` runs every stage; what the design promises is there, and every stage is a run of one pipeline."""
    output = workspace.repro()
    assert sorted(ran(output)) == sorted(STAGES)
    metrics = json.loads(workspace.read("reports/metrics.json"))
    assert metrics["schema"] == 2
    assert set(metrics["models"]) == {
        "baseline",
        "transfer/mobilenet_v3_small",
        "finetune/mobilenet_v3_small",
        "reference",
    }
    assert metrics["best"] in metrics["models"]
    for name in ("accuracy", "macro_f1", "val_accuracy", "log_loss", "intervals", "calibration", "multiply_adds"):
        assert name in metrics["models"]["baseline"]
    assert metrics["models"]["baseline"]["calibration"]["temperature"] != 1
    for name in (
        "leaderboard.csv",
        "details.json",
        "cost.csv",
        "report.html",
        "data.html",
        "predictions.parquet",
        "plots/confusion.csv",
        "plots/classes.csv",
        "plots/reliability.csv",
        "plots/robustness.csv",
        "plots/curves/baseline.csv",
    ):
        assert (workspace.place / "reports" / name).stat().st_size > 0
    decision = json.loads(workspace.read("reports/promotion.json"))
    assert (decision["registered"]["name"], decision["registered"]["version"]) == ("darkroom", "1")
    assert decision["registered"]["aliases"] == ["challenger", *["champion"] * decision["verdict"]["passed"]]

    workspace.run("darkroom", "sync")
    code = (
        "from darkroom.tracking import store; c = store.client(); runs = c.search_runs([store.experiment(c)])\n"
        "print(sorted(r.info.run_name for r in runs if 'mlflow.parentRunId' in r.data.tags))\n"
        "print(len({r.data.tags['mlflow.parentRunId'] for r in runs if 'mlflow.parentRunId' in r.data.tags}))\n"
        "print({r.info.status for r in runs})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=workspace.place, env=workspace.environment, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-3:] == [str(sorted(STAGES)), "1", "{'FINISHED'}"], done.stderr
    assert "→ " in workspace.run("darkroom", "leaderboard")


def test_the_second_time_nothing_runs(workspace):
    """With nothing changed, no stage runs."""
    assert ran(workspace.repro()) == []


def test_views_made_while_training_give_the_same_models(workspace):
    """With `augment.storage: online`, and with every kept feature map gone, all models have the same bytes."""
    models = workspace.models()
    shutil.rmtree(workspace.place / ".darkroom" / "maps")
    workspace.set("augment.storage=online")
    assert {"augment", "baseline", "embed@mobilenet_v3_small"} <= set(ran(workspace.repro()))
    assert not (workspace.place / "data/augmented/views.npy").exists()
    assert workspace.models() == models
    workspace.set("augment.storage=stored")
    workspace.repro()
    assert (workspace.place / "data/augmented/views.npy").exists()


def test_the_registered_model_answers(workspace):
    """The registered version, loaded by MLflow, classifies the bytes of an image file as the checkpoint does."""
    code = (
        "import mlflow, pandas, json, pathlib; from darkroom.tracking import store\n"
        "mlflow.set_tracking_uri(store.uri())\n"
        "model = mlflow.pyfunc.load_model('models:/darkroom@challenger')\n"
        "files = [pathlib.Path('own digits/3/00003.png').read_bytes(), b'no image']\n"
        "answer = model.predict(pandas.DataFrame({'image': files}))\n"
        "print(json.dumps([answer.label[0], sum(answer.probabilities[0].values()), answer.error[1]]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=workspace.place, env=workspace.environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    label, total, error = json.loads(done.stdout.splitlines()[-1])
    assert label in "0123456789"
    assert total == pytest.approx(1, abs=1e-5)
    assert error == "the content is no image in a format that Darkroom reads"


def test_a_changed_param_runs_what_follows_and_the_alias_follows_back(workspace):
    """Change `transfer.lr`: only transfer and what follows runs. Change it back: DVC restores, and the alias returns."""
    before = json.loads(workspace.read("reports/promotion.json"))
    models = workspace.models()
    workspace.set("transfer.lr=0.0001", "finetune.lr=0.0000001")
    assert ran(workspace.repro()) == AFTER_TRANSFER
    assert workspace.models() != models
    workspace.set("transfer.lr=0.003", "finetune.lr=0.001")
    output = workspace.repro()
    assert ran(output) == ["register"]
    assert workspace.models() == models
    after = json.loads(workspace.read("reports/promotion.json"))
    assert (after["registered"]["version"], after["checkpoint_sha256"]) == ("1", before["checkpoint_sha256"])


def test_mlflow_shows_what_was_reused(workspace):
    """The pipeline that changed a param has all stages: those that ran, and the others with a link to the run that made them."""
    workspace.run("darkroom", "sync")
    runs = workspace.runs()
    by_id = {run["id"]: run for run in runs}
    changed = max((run for run in runs if run["tags"].get("darkroom.pipeline") and run["reused"] is None
                   and run["stage"] == AFTER_TRANSFER[0]), key=lambda run: run["started"])  # fmt: skip
    members = [run for run in runs if run["tags"]["darkroom.pipeline"] == changed["tags"]["darkroom.pipeline"]]
    stages = {run["stage"]: run for run in members}
    assert sorted(stages) == sorted([*STAGES, "pipeline"])
    assert sorted(stage for stage, run in stages.items() if run["reused"] is None and stage != "pipeline") == sorted(AFTER_TRANSFER)
    for stage, run in stages.items():
        if run["reused"]:
            assert (by_id[run["reused"]]["stage"], by_id[run["reused"]]["reused"]) == (stage, None)


def test_an_experiment_in_a_folder_of_its_own_is_recorded_here(workspace):
    """`dvc exp run --temp` runs in a folder that DVC removes; its runs are in this folder's MLflow, grouped under its name."""
    for command in (["add", "-A"], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "as it is"]):
        subprocess.run(["git", *command], cwd=workspace.place, check=True)
    output = workspace.run("dvc", "exp", "run", "--temp", "-n", "elsewhere", "-S", "baseline.lr=0.002", "baseline")
    assert "baseline: compact, val accuracy" in output
    workspace.run("darkroom", "sync")
    mine = [run for run in workspace.runs() if run["tags"].get("darkroom.pipeline", "").startswith("elsewhere-")]
    ran = {run["stage"]: run for run in mine if run["reused"] is None}
    assert sorted(ran) == ["baseline", "pipeline"]
    assert ran["baseline"]["params"]["baseline.lr"] == "0.002"
    assert {run["stage"] for run in mine if run["reused"]} == {"ingest", "augment"}
    assert ran["baseline"]["tags"]["darkroom.outputs_sha256"]
    assert {run["status"] for run in mine} == {"FINISHED"}


def test_images_and_models_lead_to_each_other(workspace):
    """`lineage` goes from an image to the models that saw it and from the champion to its images; `compare` has a page."""
    manifest = pq.read_table(workspace.place / "data/ingested/manifest.parquet").to_pylist()
    trained = next(row for row in manifest if row["split"] == "train")
    said = workspace.run("darkroom", "lineage", f"own digits/{trained['path']}")
    assert "trained on it: baseline, transfer@mobilenet_v3_small, finetune@mobilenet_v3_small" in said
    assert "among them: version " in said
    found = json.loads(workspace.run("darkroom", "lineage", "1", "--json").partition("{")[2].join(["{", ""]))
    assert {row["split"] for row in found["images"]} == {"train", "val", "test"}
    assert trained["path"] in {row["path"] for row in found["images"]}
    assert "finetune@mobilenet_v3_small" in workspace.run("darkroom", "compare", "--stage", "transfer", "--stage", "finetune")
    assert (workspace.place / "reports" / "compare.html").exists()


def test_a_person_changes_the_champion(workspace):
    """`promote` makes any version the champion, `rollback` goes back, and the ledger says who, when and why."""
    for version in ("1", "2"):
        workspace.run("darkroom", "promote", version, "--why", "it looks better")
    assert "2 champion" in workspace.run("darkroom", "models")
    assert "is the champion already" in workspace.run("darkroom", "promote", "2")
    assert "is the champion again, in place of version 2" in workspace.run("darkroom", "rollback")
    listed = workspace.run("darkroom", "models")
    assert "1 challenger champion" in listed
    assert "images of own digits (manifest " in listed
    history = workspace.run("darkroom", "models", "--history").splitlines()
    assert "by promote: it looks better" in history[-2]
    assert "version 1," in history[-1]
    assert "in place of version 2 by rollback: back from version 2" in history[-1]
    assert "remedy: `darkroom models` lists them" in workspace.run("darkroom", "promote", "9", code=2)


def test_a_mistake_loses_nothing(workspace):
    """A wrong value or source stops `dvc repro` with the remedy, and what was there before is as it was."""
    kept = {
        path: path.read_bytes()
        for root in ("data/ingested", "models")
        for path in (workspace.place / root).rglob("*")
        if path.is_file()
    }
    text = (workspace.place / "params.yaml").read_text()
    (workspace.place / "one class").mkdir()
    shutil.copytree(workspace.place / "own digits" / "0", workspace.place / "one class" / "0")
    for wrong in (
        text.replace("source: own digits", "source: one class"),
        text.replace("  epochs: 5", "  epochs: many"),
    ):
        assert wrong != text
        (workspace.place / "params.yaml").write_text(wrong)
        output = workspace.repro(code=None)
        assert "remedy:" in output
        assert "Traceback" not in output
        workspace.run("darkroom", "check", code=2)
        assert {path: path.read_bytes() for path in kept} == kept
    (workspace.place / "params.yaml").write_text(text)
    (workspace.place / "own digits").rename(workspace.place / "away")
    workspace.repro(code=None)
    workspace.run("darkroom", "check", code=2)
    assert {path: path.read_bytes() for path in kept} == kept
    (workspace.place / "away").rename(workspace.place / "own digits")
    assert ran(workspace.repro()) == []


def test_a_corrected_label_is_an_input(workspace):
    """A line in data/label_fixes.csv runs ingest again, which shows it in the manifest; taken out, everything is as it was."""
    fixes = workspace.place / "data" / "label_fixes.csv"
    before, text = workspace.read("data/ingested/manifest.parquet"), fixes.read_text()
    fixes.write_text(text + "1/00001.png,7\n")
    assert ran(workspace.run("dvc", "repro", "--single-item", "ingest")) == ["ingest"]
    rows = pq.read_table(workspace.place / "data" / "ingested" / "manifest.parquet").to_pylist()
    assert [(row["path"], row["label"], row["source_label"]) for row in rows if "label_fixed" in row["flags"]] == [
        ("1/00001.png", "7", "1")
    ]
    fixes.write_text(text + "1/00001.png,seven\n")
    assert "there is no such class" in workspace.run("dvc", "repro", "--single-item", "ingest", code=None)
    fixes.write_text(text)
    assert ran(workspace.run("dvc", "repro", "--single-item", "ingest")) == ["ingest"]
    assert workspace.read("data/ingested/manifest.parquet") == before
    assert ran(workspace.repro()) == []


def test_backbones_come_and_go(workspace):
    """A backbone that is added runs its own stages, evaluate and register; what a dropped one leaves, tidy removes."""
    workspace.set("backbones=[mobilenet_v3_small, squeezenet1_1]")
    own = [f"{stage}@squeezenet1_1" for stage in ("weights", "embed", "transfer", "finetune")]
    assert ran(workspace.repro()) == [*own, "evaluate", "register"]
    assert "finetune/squeezenet1_1" in json.loads(workspace.read("reports/metrics.json"))["models"]
    workspace.set("backbones=[mobilenet_v3_small]")
    assert ran(workspace.repro()) == ["evaluate", "register"]
    assert "finetune/squeezenet1_1" not in json.loads(workspace.read("reports/metrics.json"))["models"]
    output = workspace.run("darkroom", "tidy")
    assert output.count("squeezenet1_1") == 9
    assert not [path for folder in ("data", "models") for path in (workspace.place / folder).rglob("*squeezenet*")]
    assert "nothing to remove" in workspace.run("darkroom", "tidy")
    workspace.repro()


def test_without_backbones_the_baseline_is_alone(workspace):
    """With `backbones: []` nothing is transferred, and what is trained from scratch is evaluated and registered."""
    workspace.set("backbones=[]")
    workspace.run("darkroom", "tidy")
    assert ran(workspace.repro()) == ["evaluate", "register"]
    assert set(json.loads(workspace.read("reports/metrics.json"))["models"]) == {"baseline", "reference"}
    workspace.set("backbones=[mobilenet_v3_small]")
    assert set(ran(workspace.repro())) <= {"evaluate", "register"}  # the others are in DVC's run cache


def test_a_flow_gives_the_same_bytes(workspace):
    """A flow skips what is up to date without a process; forced to run everything, it gives the bytes of `dvc repro`."""
    output = workspace.run("darkroom", "flow", "repro")
    assert reported(output) == dict.fromkeys(STAGES, "Cached")
    assert not ran(output)
    metrics, models = workspace.read("reports/metrics.json"), workspace.models()
    assert models
    output = workspace.run("pipelines.repro", "--force")
    assert sorted(set(ran(output))) == sorted(STAGES)
    assert workspace.read("reports/metrics.json") == metrics
    assert workspace.models() == models
    workspace.run("darkroom", "sync")
    parents = [run for run in workspace.runs() if run["stage"] == "pipeline"][-2:]
    shown = [run for run in workspace.runs() if run["tags"].get("darkroom.pipeline") == parents[0]["tags"]["darkroom.pipeline"]]
    assert sorted(run["stage"] for run in shown) == sorted([*STAGES, "pipeline"])  # the flow in which nothing ran
    assert all(run["reused"] for run in shown if run["stage"] != "pipeline")
    assert [run["status"] for run in parents] == ["FINISHED", "FINISHED"]


def reported(output: str) -> dict[str, str]:
    """Return every stage's state, as a flow reports them at its end."""
    return {stage: state for state, stage in re.findall(r" - (Cached|Completed|Failed) +(\S+)$", output, re.MULTILINE)}
