"""The whole pipeline on 32 small images, with the real DVC, MLflow and Prefect.

A module-scoped workspace runs it, is moved, changes a param and changes it back, with another `cache.type` of DVC each time
and a cache that it shares with its copies. Tests read this workspace, or change a copy of it.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from darkroom import cli
from darkroom.tracking import mlflow_client, queries, records, requests
from tests.conftest import NOT_SOURCES, ROOT

pytestmark = pytest.mark.pipeline
BACKBONE = "mobilenet_v3_small"
OWN = [f"{stage}@{BACKBONE}" for stage in ("weights", "embed", "transfer", "finetune")]
STAGES = sorted(["names", "ingest", "augment", "baseline", *OWN, "cross_validate", "evaluate", "register", "diagnose"])
AFTER_TRANSFER = [f"transfer@{BACKBONE}", f"finetune@{BACKBONE}", "cross_validate", "evaluate", "register", "diagnose"]
DARK, LIGHT = "dark", "light"


class Workspace:
    """A project folder, and how commands run in it."""

    def __init__(self, folder: Path, tracking: bool = True) -> None:
        unset = (
            "MLFLOW_TRACKING_URI",
            "MLFLOW_REGISTRY_URI",
            "DARKROOM_TRACKING",
            "DARKROOM_PIPELINE",
            "DVC_STAGE",
            "PREFECT_API_URL",
        )
        self.environment = {key: value for key, value in os.environ.items() if key not in unset} | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PREFECT_HOME": str(folder.parent / "prefect"), "DO_NOT_TRACK": "1",
        }  # fmt: skip
        if not tracking:
            self.environment["DARKROOM_TRACKING"] = "off"
        self.enter(folder)

    def enter(self, folder: Path) -> None:
        """Let commands run in this folder, with its code."""
        self.folder = folder
        self.environment["PYTHONPATH"] = str(folder / "src")

    def python(self, *arguments: str, code: int | None = 0) -> str:
        """Return the output of Python; `code` is its expected exit code, None any."""
        command = [sys.executable, *arguments]
        result = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=900)
        assert code is None or result.returncode == code, (result.stdout + result.stderr)[-4000:]
        return result.stdout + result.stderr

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Let this process be one that runs in the project, and does its work in MLflow, which it has imported, itself."""
        with (
            contextlib.chdir(self.folder),
            mock.patch.dict(os.environ, self.environment, clear=True),
            mock.patch.object(records, "start_uploader", return_value=None),
            mock.patch.object(requests, "send", return_value=None),
        ):
            yield

    def run(self, *command: str, code: int = 0) -> str:
        """Return the output of a `darkroom` command, run in this process: a new one would import MLflow and torch again."""
        return "".join(self._outputs(command, code))

    def json(self, *command: str) -> Any:
        return json.loads(self._outputs([*command, "--json"])[0])

    def _outputs(self, command: Sequence[str], code: int = 0) -> tuple[str, str]:
        """Return what a `darkroom` command writes to stdout and to stderr."""
        output, errors = io.StringIO(), io.StringIO()
        with self.inside(), contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
            result = cli.main(command)
        assert result == code, (output.getvalue() + errors.getvalue())[-4000:]
        return output.getvalue(), errors.getvalue()

    def dvc(self, *command: str, code: int | None = 0) -> str:
        return self.python("-m", "dvc", *command, code=code)

    def repro(self, *arguments: str, code: int | None = 0) -> list[str]:
        """Run `dvc repro`; return the stages that ran."""
        return stages_run(self.dvc("repro", *arguments, code=code))

    def configure(self, link: str) -> None:
        """Let DVC use the cache and the remote beside the project, and link outputs to the cache in this way."""
        place = self.folder.parent
        remote = f"[core]\n    remote = store\n['remote \"store\"']\n    url = {place / 'remote'}\n"
        (self.folder / ".dvc" / "config").write_text(remote)
        cache = f"[core]\n    autostage = true\n[cache]\n    dir = {place / 'cache'}\n    type = {link}\n"
        (self.folder / ".dvc" / "config.local").write_text(cache)

    def set(self, *values: str) -> None:
        self.run("recipe", "--set", *values)

    def models(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.folder)): path.read_bytes() for path in sorted(self.folder.glob("models/**/*.safetensors"))
        }

    def read(self, path: str) -> bytes:
        return (self.folder / path).read_bytes()

    def runs(self) -> list[Any]:
        """Return every run in MLflow, once all records are delivered."""
        self.run("sync")
        with self.inside():
            return queries.runs()

    def git(self, *arguments: str) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], cwd=self.folder, check=True)


def stages_run(output: str) -> list[str]:
    return re.findall(r"Running stage '([^']+)'", output)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Workspace:
    """Return a project of 32 images and one random backbone that ran three times: as it is, moved and with another param,
    and back.

    `first`, `changed` and `restored` have the stages that ran, the promotion decision, the models and a file of each time.
    """
    folder = tmp_path_factory.mktemp("end to end") / "project"
    for name in ("src", "pipelines", "recipes"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns(*NOT_SOURCES))
    for name in ("dvc.yaml", "params.yaml", ".dvcignore", ".gitignore"):
        shutil.copy(ROOT / name, folder)
    for name in (
        "backbones/README.md",
        "data/label_fixes.csv",
        "data/splits.csv",
        "data/weights/.gitignore",
        "models/transfer/.keep",
        "models/finetune/.keep",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    rng = np.random.default_rng(0)
    for label, low in ((DARK, 0), (LIGHT, 160)):
        (folder / "photos" / label).mkdir(parents=True)
        for i in range(16):
            Image.fromarray(rng.integers(low, low + 90, (16, 16, 3), np.uint8)).save(folder / "photos" / label / f"{i:02}.png")
    workspace = Workspace(folder)
    workspace.git("init", "-q")
    workspace.dvc("init", "-q")
    workspace.configure("hardlink")
    workspace.set(
        "fetch.datasets=[]", "ingest.source=photos", "ingest.image_size=16", "ingest.split_by=stratified",
        f"backbones=[{BACKBONE}]", "weights.source=random", "augment.policy=light", "augment.views=2", "baseline.epochs=2",
        "baseline.width=4", "transfer.epochs=2", "finetune.epochs=2", "diagnose.robustness_images=2", "diagnose.views=none",
        "compute.threads=1",
    )  # fmt: skip

    def run() -> dict[str, Any]:
        ran = workspace.repro()
        promotion = json.loads(workspace.read("reports/promotion.json"))
        status = (workspace.folder / "models/baseline/model.safetensors").lstat()
        return {"ran": ran, "promotion": promotion, "models": workspace.models(), "status": status}

    workspace.first = run()
    workspace.before = folder
    workspace.enter(folder.rename(folder.with_name("moved")))
    workspace.set("transfer.lr=0.0001", "finetune.lr=0.0000001")
    workspace.changed = run()
    workspace.configure("symlink")
    workspace.dvc("checkout", "--relink")
    workspace.set("transfer.lr=0.003", "finetune.lr=0.001")
    workspace.restored = run()
    workspace.git("add", "-A")
    workspace.git("commit", "-qm", "as it is")
    return workspace


@pytest.fixture
def copy(workspace, tmp_path) -> Workspace:
    """Return a copy of the workspace to change, in which nothing is tracked."""
    return copy_of(workspace, tmp_path, tracking=False)


def copy_of(workspace: Workspace, folder: Path, tracking: bool = True) -> Workspace:
    if tracking:
        workspace.run("sync")  # else the uploader of an earlier run may still write records and artifacts
    ignored = () if tracking else (".darkroom", "mlflow.db", "mlruns")
    shutil.copytree(workspace.folder, folder / "project", symlinks=True, ignore=shutil.ignore_patterns(*ignored))
    return Workspace(folder / "project", tracking)


def test_from_a_folder_to_a_registered_model(workspace):
    """One `dvc repro` runs every stage, writes every output that the design promises, and registers the best
    model."""
    assert sorted(workspace.first["ran"]) == STAGES
    metrics = json.loads(workspace.read("reports/metrics.json"))
    assert {"baseline", f"transfer/{BACKBONE}", f"finetune/{BACKBONE}"} < set(metrics["models"])
    assert metrics["best"] in metrics["models"]
    for name in ("accuracy", "macro_f1", "val_accuracy", "log_loss", "intervals", "calibration", "multiply_adds"):
        assert name in metrics["models"]["baseline"]
    assert metrics["models"]["baseline"]["calibration"]["temperature"] != 1
    plots = [f"plots/{name}.csv" for name in ("confusion", "classes", "reliability", "robustness", "curves/baseline")]
    for name in ("leaderboard.csv", "details.json", "cost.csv", "report.html", "data.html", "predictions.parquet", *plots):
        assert (workspace.folder / "reports" / name).stat().st_size > 0
    decision = workspace.first["promotion"]
    assert (decision["registered"]["name"], decision["registered"]["version"]) == ("darkroom", "1")
    assert decision["registered"]["aliases"] == ["challenger", *["champion"] * decision["verdict"]["passed"]]
    assert metrics["best"] in workspace.run("leaderboard")


def test_outputs_may_be_links_into_a_shared_cache(workspace):
    """The stages run with each `cache.type`: hard links at first and when moved, symbolic links in the end and in all copies."""
    shared = workspace.folder.parent / "cache"
    assert workspace.first["status"].st_nlink > 1
    assert (workspace.folder / "models/baseline/model.safetensors").readlink().is_relative_to(shared)
    assert not list((workspace.folder / ".dvc").glob("cache/files/md5/*"))


def test_a_moved_project_leaves_its_place(workspace):
    """After a move nothing is written at the old place, and no state leads there."""
    assert not workspace.before.exists()
    state = [
        path for name in (".darkroom", ".dvc", "mlflow.db", "dvc.lock", "params.yaml") for path in files(workspace.folder / name)
    ]
    assert len(state) > 20
    assert [path for path in state if str(workspace.before).encode() in path.read_bytes()] == []


def files(path: Path) -> list[Path]:
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]


def test_a_clone_has_all_results(workspace, tmp_path):
    """After `git clone` and `dvc pull`, `dvc status` and `dvc checkout` report nothing and `dvc repro` runs nothing."""
    workspace.dvc("push")
    subprocess.run(["git", "clone", "-q", str(workspace.folder), str(tmp_path / "clone")], check=True)
    clone = Workspace(tmp_path / "clone")
    clone.dvc("pull")
    assert clone.repro() == []
    assert "up to date" in clone.dvc("status")
    assert clone.models() == workspace.restored["models"]
    assert "`dvc repro -f -s register`" in clone.run("leaderboard")


def test_a_changed_param_runs_the_stages_below_it(workspace):
    """With another `transfer.lr` only transfer and the stages below run.

    Changed back, DVC restores and the alias returns.
    """
    first, changed, restored = workspace.first, workspace.changed, workspace.restored
    assert changed["ran"] == AFTER_TRANSFER
    assert changed["models"] != first["models"]
    assert restored["ran"] == ["register"]
    assert restored["models"] == first["models"]
    assert restored["promotion"]["registered"]["version"] == "1"
    assert restored["promotion"]["checkpoint_sha256"] == first["promotion"]["checkpoint_sha256"]


def test_mlflow_has_every_stage_of_every_pipeline(workspace):
    """A pipeline has the runs of the stages that ran, and for the others a link to the run that made their
    outputs."""
    runs = workspace.runs()
    assert {run.status for run in runs} == {"FINISHED"}
    by_id = {run.id: run for run in runs}
    for ran, lr in ((STAGES, "0.003"), (sorted(AFTER_TRANSFER), "0.0001")):
        (transfer,) = [run for run in runs if run.stage == f"transfer@{BACKBONE}" and not run.reused
                       and run.params["transfer.lr"] == lr]  # fmt: skip
        members = [run for run in runs if run.tags["darkroom.pipeline"] == transfer.tags["darkroom.pipeline"]]
        stages = {run.stage: run for run in members}
        assert sorted(stages) == sorted([*STAGES, "pipeline"])
        assert sorted(stage for stage, run in stages.items() if not run.reused and stage != "pipeline") == ran
        for stage, run in stages.items():
            if run.reused:
                assert (by_id[run.reused].stage, by_id[run.reused].reused) == (stage, "")


def test_the_registered_model_predicts(workspace):
    """The registered version, loaded by MLflow, classifies the bytes of an image file, and reports a file
    that is no image."""
    with workspace.inside():
        model = mlflow_client.library().pyfunc.load_model("models:/darkroom@challenger")
        predictions = model.predict(pd.DataFrame({"image": [workspace.read("photos/dark/00.png"), b"no image"]}))
    assert predictions.label[0] in (DARK, LIGHT)
    assert sum(predictions.probabilities[0].values()) == pytest.approx(1, abs=1e-5)
    assert predictions.error[1]


def test_the_notebook_of_the_python_interface_runs(workspace):
    """Each cell of docs/python.ipynb runs in a finished project, and what it ends with can be shown."""
    cells = json.loads((ROOT / "docs" / "python.ipynb").read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    names: dict[str, Any] = {"Path": Path}
    with workspace.inside(), contextlib.redirect_stdout(io.StringIO()) as printed:
        for source in code[1:]:  # the first one finds the project
            runs_nothing = re.sub(r"^( *)!.*", r'\1raise AssertionError("the pipeline has run")', source, flags=re.MULTILINE)
            *statements, last = ast.parse(runs_nothing).body
            exec(compile(ast.Module(statements, []), "cell", "exec"), names)
            shown = ast.unparse(last)
            value = eval(shown, names) if isinstance(last, ast.Expr) else exec(shown, names)
            assert value is None or repr(value)
            assert "<" in getattr(value, "_repr_html_", lambda: "<")()
    assert names["model"].predict(list(names["images"])).labels[0] in names["classes"]
    assert "remedy: " in printed.getvalue()


def test_images_and_models_lead_to_each_other(workspace):
    """`lineage` goes from an image to the models that used it and from a version to its images.

    `compare` writes a page.
    """
    manifest = pq.read_table(workspace.folder / "data/ingested/manifest.parquet").to_pylist()
    trained = next(row for row in manifest if row["split"] == "train")
    output = workspace.run("lineage", f"photos/{trained['path']}")
    for stage in ("baseline", f"transfer@{BACKBONE}", f"finetune@{BACKBONE}"):
        assert stage in output
    lineage = workspace.json("lineage", "1")
    assert {row["split"] for row in lineage["images"]} == {"train", "val", "test"}
    assert trained["path"] in {row["path"] for row in lineage["images"]}
    page = workspace.folder / "reports" / "compare.html"
    assert f"finetune@{BACKBONE}" in workspace.run("compare", "--stage", "transfer", "--stage", "finetune")
    assert page.stat().st_size > 0


def test_a_person_changes_the_champion(workspace, tmp_path):
    """`register MODEL` makes a version of another model. `promote` makes any version the champion, `rollback` goes back,
    and the ledger has who, when and why.

    In a copy of the project all of this is the copy's: the original, which is still there, does not change.
    """
    original, workspace = workspace, copy_of(workspace, tmp_path)
    artifacts = sorted(original.folder.glob("mlruns/**/*"))
    before = original.json("models")
    best = json.loads(workspace.read("reports/metrics.json"))["best"]
    one = original.restored["promotion"]["registered"]["version"]
    two = workspace.json("register", "baseline" if best != "baseline" else f"transfer/{BACKBONE}")["registered"]["version"]
    assert one != two
    for version in (one, two):
        workspace.run("promote", version, "--force", "--why", "it looks better")
    assert two in workspace.run("rollback")
    versions = {version["version"]: version for version in workspace.json("models")}
    assert "champion" in versions[one]["aliases"]
    assert "champion" not in versions[two]["aliases"]
    history = workspace.json("models", "--history")[-2:]
    assert [(line["version"], line["by"]) for line in history] == [(two, "promote"), (one, "rollback")]
    assert history[0]["why"] == "it looks better"
    assert history[1]["previous"] == two
    assert "`darkroom models`" in workspace.run("promote", "9", code=2)
    assert original.json("models") == before
    assert sorted(original.folder.glob("mlruns/**/*")) == artifacts


def test_an_experiment_in_a_temporary_folder_is_recorded_here(workspace):
    """`dvc exp run --temp` runs in a folder that DVC removes.

    Its runs are in this folder's MLflow, under the experiment's name.
    """
    output = workspace.dvc("exp", "run", "--temp", "-n", "elsewhere", "-S", "baseline.lr=0.002", "baseline")
    assert "baseline" in stages_run(output)
    members = [run for run in workspace.runs() if run.tags.get("darkroom.pipeline", "").startswith("elsewhere-")]
    ran = {run.stage: run for run in members if not run.reused}
    assert sorted(ran) == ["baseline", "pipeline"]
    assert ran["baseline"].params["baseline.lr"] == "0.002"
    assert ran["baseline"].tags["darkroom.outputs_sha256"]
    assert {run.stage for run in members if run.reused} == {"ingest", "augment"}
    assert {run.status for run in members} == {"FINISHED"}


def test_a_mistake_loses_nothing(copy):
    """A wrong value or source stops `dvc repro` with a remedy, and all outputs are as they were."""
    outputs = {
        path: path.read_bytes()
        for root in ("data/ingested", "models")
        for path in (copy.folder / root).rglob("*")
        if path.is_file()
    }
    params = copy.folder / "params.yaml"
    text = params.read_text()
    shutil.copytree(copy.folder / "photos" / DARK, copy.folder / "one class" / DARK)
    mistakes = {
        "one class": text.replace("source: photos", "source: one class"),
        "many": text.replace("  epochs: 2", "  epochs: many"),
        "nowhere": text.replace("source: photos", "source: nowhere"),
    }
    for fact, mistake in mistakes.items():
        assert mistake != text
        params.write_text(mistake)
        output = copy.dvc("repro", code=None)
        assert "remedy:" in output or fact == "nowhere"  # DVC itself refuses a missing dependency
        assert fact in output
        assert "Traceback" not in output
        assert {path: path.read_bytes() for path in outputs} == outputs
    assert "remedy:" in copy.run("check", code=2)
    params.write_text(text)
    assert copy.repro() == []


def test_splits_and_corrected_labels_are_inputs(copy):
    """`splits freeze` changes no output but makes ingest run again; a line in data/splits.csv moves its image, which is named.

    A line in data/label_fixes.csv is in the manifest; a class that does not exist is refused. Removed, everything is as it was.
    """
    manifest, fixes, splits = (
        "data/ingested/manifest.parquet",
        copy.folder / "data/label_fixes.csv",
        copy.folder / "data/splits.csv",
    )
    before, text = copy.read(manifest), fixes.read_text()
    assert "32 lines added" in copy.run("splits", "freeze")
    assert copy.repro() == ["ingest"]
    assert copy.read(manifest) == before
    fixes.write_text(text + f"{DARK}/01.png,grey\n")
    assert "grey" in copy.dvc("repro", "--single-item", "ingest", code=None)
    frozen = splits.read_text()
    line = next(line for line in frozen.splitlines() if ",train," in line)
    splits.write_text(frozen.replace(line, line.replace(",train,", ",test,")))
    fixes.write_text(text + f"{DARK}/01.png,{LIGHT}\n")
    output = copy.dvc("repro", "--single-item", "ingest")
    assert f"1 image changed its split since the last ingest (1 train → test): {line.split(',')[0]}" in output
    rows = pq.read_table(copy.folder / manifest).to_pylist()
    fixed = [(row["path"], row["label"], row["source_label"]) for row in rows if "label_fixed" in row["flags"]]
    assert fixed == [(f"{DARK}/01.png", LIGHT, DARK)]
    splits.write_text(frozen)
    fixes.write_text(text)
    assert copy.repro() == ["ingest"]
    assert copy.read(manifest) == before


def test_backbones_come_and_go(copy):
    """A backbone that is added has stages of its own to run.

    The outputs of a dropped one are removed by `tidy`.
    """
    copy.set(f"backbones=[{BACKBONE}, squeezenet1_1]")
    changed = json.loads(copy.dvc("status", "--json").splitlines()[-1])
    assert {f"{stage}@squeezenet1_1" for stage in ("weights", "embed", "transfer", "finetune")} <= set(changed)
    copy.set("backbones=[]")
    assert set(copy.repro("evaluate")) >= {"cross_validate", "evaluate"}
    assert "baseline" in (models := json.loads(copy.read("reports/metrics.json"))["models"])
    assert not [name for name in models if BACKBONE in name]
    assert BACKBONE in copy.run("tidy")
    left = [path for folder in ("data", "models") for path in (copy.folder / folder).rglob(f"*{BACKBONE}*")]
    assert left == [copy.folder / f"data/backbones/{BACKBONE}.txt"]  # of the stage `names`, which writes them anew
    copy.set(f"backbones=[{BACKBONE}]")
    assert copy.repro(f"finetune@{BACKBONE}") == []  # DVC's run cache has them


def test_a_flow_gives_the_bytes_of_dvc_repro(workspace, copy):
    """A flow with a temporary server runs the changed stages. Views made while training give the same models and embeddings
    as stored ones.
    """
    shutil.rmtree(copy.folder / ".darkroom", ignore_errors=True)
    copy.set("augment.storage=online")
    output = copy.python("-m", "pipelines.repro", "baseline")
    assert stages_run(output) == ["augment", "baseline"]
    states = re.findall(r" - (Cached|Completed|Failed) +(\S+)$", output, re.MULTILINE)
    assert {stage for state, stage in states if state == "Completed"} == set(stages_run(output))
    assert not (copy.folder / "data/augmented/views.npy").exists()
    assert copy.models() == workspace.first["models"]
    shutil.rmtree(copy.folder / "data/embedded")
    copy.run("embed", BACKBONE)
    embedded = files(copy.folder / "data/embedded")
    assert len(embedded) > 2
    assert all(path.read_bytes() == workspace.read(str(path.relative_to(copy.folder))) for path in embedded)


SEVERAL = """
import json, sys
from darkroom import cli

for command in json.loads(sys.argv[1]):
    code = cli.main(command)
    assert code == 0, f"{command} ended with code {code}"
"""
# of root: to write and read whatever the permissions are, to change them, and to change owners
RIGHTS = "-dac_override,-dac_read_search,-fowner,-chown"


def tree(folder: Path) -> dict[str, tuple[int, int, int, int]]:
    """Return of each file and folder its number, mode, size and time of the last change."""
    states = {str(path.relative_to(folder)): path.lstat() for path in sorted(folder.rglob("*"))}
    return {path: (state.st_ino, state.st_mode, state.st_size, state.st_mtime_ns) for path, state in states.items()}


def test_a_project_may_have_any_name(workspace, tmp_path):
    """Quotes, spaces, `?`, `#` and a line break may be in the name of the folder: models are listed, predict, and are verified, and
    nothing comes to be beside the project."""
    copy = copy_of(workspace, tmp_path / "copies")
    copy.enter(copy.folder.rename(copy.folder.with_name('it\'s "a"?#b\nc')))
    commands = [["models"], ["predict", "photos/dark/00.png", "photos/light/00.png"], ["verify", "--cache"]]
    output = copy.python("-P", "-c", SEVERAL, json.dumps(commands))
    assert re.search(r"^1 +challenger", output, re.MULTILINE)
    assert len(re.findall(r"^photos/(?:dark|light)/00\.png +(?:dark|light)", output, re.MULTILINE)) == 2
    assert "none damaged or changed" in output
    assert list(copy.folder.parent.iterdir()) == [copy.folder]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="to give a folder to another user takes root")
@pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv, which takes root's rights away, is not installed: util-linux")
def test_another_user_reads_a_project(workspace, tmp_path):
    """Who may not write into a project sees its models, results and plan, and classifies; no file of it changes."""
    copy = copy_of(workspace, tmp_path)
    for path in (copy.folder, *copy.folder.rglob("*")):
        os.chown(path, 1000, 1000, follow_symlinks=False)
    before = tree(copy.folder)
    commands = [["models"], ["leaderboard"], ["lineage", "1"], ["predict", "photos/dark/00.png"], ["report"], ["plan"]]
    rights = ["setpriv", f"--bounding-set={RIGHTS}", f"--inh-caps={RIGHTS}"]
    environment = copy.environment | {"XDG_CACHE_HOME": str(tmp_path / "cache")}

    def run(script: str) -> subprocess.CompletedProcess[str]:
        command = [*rights, sys.executable, "-P", "-c", script, json.dumps(commands)]
        return subprocess.run(command, cwd=copy.folder, env=environment, capture_output=True, text=True, timeout=900)

    assert "PermissionError" in run("open('written', 'w')").stderr, "the project can be written"
    done = run(SEVERAL)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    for part in ("challenger", "baseline", "photos/dark/00.png", "page: reports/report.html", "memory"):
        assert part in done.stdout
    assert tree(copy.folder) == before


def test_the_umask_keeps_others_out(workspace, tmp_path):
    """With `umask 077` nobody else reads what commands write: each new file, or a new folder around it, is its owner's alone."""
    copy = copy_of(workspace, tmp_path)
    before = tree(copy.folder)
    umask = os.umask(0o077)
    try:
        copy.run("baseline")
        copy.run("recipe", "--set", "baseline.lr=0.002")
        copy.run("splits", "freeze")
        copy.run("compare")
        copy.run("export", "--model", "models/baseline", "--out", "exported")
        copy.run("register", f"transfer/{BACKBONE}")
        copy.run("sync")
        copy.run("predict", "photos/dark/00.png", "--model", f"models/transfer/{BACKBONE}")
    finally:
        os.umask(umask)
    after = tree(copy.folder)
    new = {path: state[1] for path, state in after.items() if path not in before or before[path][0] != state[0]}
    for name in ("models/baseline/model.safetensors", "params.yaml", "data/splits.csv", "reports/compare.html"):
        assert name in new
    assert any(name.startswith("mlruns/") for name in new)
    private = {name for name, mode in new.items() if not mode & 0o077}
    opened = {name for name in new if not private & {name, *map(str, Path(name).parents)}}
    # links have no modes, and MLflow copies Darkroom's code with the mode that it has in the package
    opened = {name for name in opened if not (copy.folder / name).is_symlink() and not name.endswith("/pyfunc_model.py")}
    assert not opened, sorted(opened)
