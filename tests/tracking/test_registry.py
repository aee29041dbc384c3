"""The registered model in a real MLflow on SQLite: versions, champion, ledger."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from darkroom.core import shortage
from darkroom.core.errors import WeightsError, WorkspaceError
from darkroom.inference import export, held_out
from darkroom.inference.classifier import Classifier
from darkroom.models import weight_files
from darkroom.models.base import Network, Preprocessing
from darkroom.models.checkpoint import Checkpoint, save
from darkroom.models.factory import build_features
from darkroom.models.prediction_sets import ConformalScores
from darkroom.models.specs import CompactSpec
from darkroom.tracking import entities, home, mlflow_client, model_check, registry, restore
from tests.models.changed_weights import change_weights
from tests.models.known_images import fit_dark

pytestmark = pytest.mark.slow

NAME = "shown"


SCORES = ConformalScores(tuple(0.01 * i for i in range(40, 60)), (0, 1) * 10)


def checkpoint(folder: Path, seed: int) -> Path:
    """Write a small network as a checkpoint."""
    architecture = CompactSpec(16, 4)
    preprocessing = Preprocessing(16, "crop", (0, 0, 0), (0.5,) * 3, (0.5,) * 3)
    network = Network(build_features(architecture, seed), preprocessing, 2, seed)
    distances = fit_dark(network, 16)
    description = Checkpoint("baseline", architecture, preprocessing, ("a", "b"), {}, {}, conformal=SCORES, abstention=distances)
    folder.mkdir(parents=True)
    save(folder, description, network.state_dict(), 1, [{"epoch": 1.0}])
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory, empty_database):
    """Return the folder of all tests of this module, with an MLflow database."""
    folder = tmp_path_factory.mktemp("registry")
    shutil.copy(empty_database, folder / "mlflow.db")
    return folder


@pytest.fixture(autouse=True)
def here(place, monkeypatch, own_mlflow):
    monkeypatch.chdir(place)


def register(place: Path, seed: int) -> registry.Version:
    folder = place / f"model-{seed}"
    if not folder.exists():
        checkpoint(folder, seed)
    package = place / f"package-{seed}"
    if not package.exists():
        (package / registry.EVALUATION).mkdir(parents=True)
        (package / registry.EVALUATION / "trained-on.txt").write_text(f"{seed}\n")
        pack(folder, package)
    tags = {registry.MODEL: "baseline", "test_accuracy": "0.9"}
    return registry.register(NAME, folder, package, weight_files.checkpoint_digest(folder), tags, "words")


def pack(folder: Path, package: Path) -> None:
    """Make the programs of a checkpoint, and files with its answers."""
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)
    classifier = Classifier.load(folder)
    export.export(classifier, images, package / entities.EXPORTED)
    (package / registry.CHECK).mkdir()
    files = [held_out.as_file(pixels) for pixels in images]
    for number, content in enumerate(files):
        (package / registry.CHECK / f"{number}.png").write_bytes(content)
    expected = [answer.probabilities for answer in classifier.predict_files(files)]
    np.save(package / registry.CHECK / "expected.npy", np.array(expected))


def test_addresses_of_versions():
    """MLflow's own ways of writing a version are read, and without one the champion is meant."""
    assert registry.address("models:/birds/3") == ("birds", "3")
    assert registry.address("models:/birds@challenger") == ("birds", "challenger")
    assert registry.address("models:/birds") == ("birds", "champion")
    assert registry.address("models/baseline") is None


def test_before_anything_is_registered():
    """There is no champion, no version and no ledger, and no error."""
    assert registry.champion(NAME) is None
    assert registry.versions(NAME) == registry.ledger(NAME) == []


def test_a_checkpoint_is_a_version_once(place):
    """Registering twice finds the version again; another checkpoint is another version; the alias follows."""
    one, again, two = register(place, 1), register(place, 1), register(place, 2)
    assert (one.version, one.created) == ("1", True)
    assert (again.version, again.created) == ("1", False)
    assert two.version == "2"
    aliases = {item.version: item.aliases for item in registry.versions(NAME)}
    assert aliases == {"1": [], "2": [registry.CHALLENGER]}
    assert registry.pick(registry.versions(NAME), "challenger", NAME).version == "2"
    with pytest.raises(WorkspaceError, match=r"no version 7 \(there are"):
        registry.pick(registry.versions(NAME), "7", NAME)


@pytest.mark.parametrize("location", ["mlruns/1/models/m/artifacts", "file:///{place}/mlruns/a%20b"])
def test_a_version_that_does_not_fit_on_the_disk_is_refused_before_it_is_stored(tmp_path, monkeypatch, location):
    """The message has what its files need and what is free; files that a server stores are no matter of this disk."""
    (tmp_path / "model/artifacts").mkdir(parents=True)
    (tmp_path / "model/artifacts/model.onnx").write_bytes(bytes(3_000_000))
    places = {"local": location.format(place=tmp_path), "remote": "s3://bucket/m", "served": "mlflow-artifacts:/m"}
    stored: list[str] = []
    client: Any = SimpleNamespace(
        get_logged_model=lambda name: SimpleNamespace(artifact_location=places[name]),
        log_model_artifacts=lambda name, folder: stored.append(name),
    )
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1_200_000))
    with pytest.raises(WorkspaceError, match=r"needs 3\.0 MB, and 1\.2 MB are free") as caught:
        registry._store_files(client, "local", tmp_path / "model")
    assert caught.value.code == 75
    for name in ("remote", "served"):
        registry._store_files(client, name, tmp_path / "model")
    assert stored == ["remote", "served"]


def test_a_disk_that_is_full_while_a_version_is_packaged_is_described_as_it_was_then(tmp_path, monkeypatch):
    """The message has the bytes that had been written and those that were free, before the half-written files are removed."""
    free = [10_000_000, 1_000]
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=free.pop(0) if free else 9_000_000))

    def fill(folder: Path, *_: object) -> None:
        folder.mkdir(parents=True)
        (folder / "model.onnx").write_bytes(bytes(2_000_000))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(registry.model_package, "save", fill)
    with pytest.raises(OSError, match="No space") as caught:
        registry._package(tmp_path / "scratch" / "model", tmp_path / "checkpoint", tmp_path / "package", "m")
    shutil.rmtree(tmp_path / "scratch")
    explained = shortage.explain(caught.value)
    assert explained is not None
    assert "needs more than 2.0 MB, and 0.0 MB are free" in explained.problem


def test_what_was_registered_comes_back(place):
    """The checkpoint and what is packaged with it are downloaded, byte for byte, and answer."""
    folder = registry.fetch(NAME, "1")
    for file in ("model.safetensors", "model.json", "history.csv"):
        assert (folder / "checkpoint" / file).read_bytes() == (place / "model-1" / file).read_bytes()
    assert (folder / "evaluation" / "trained-on.txt").read_text() == "1\n"
    model_check.check(NAME, "1")


def test_a_damaged_copy_is_fetched_again(place):
    """A copy of a version whose checkpoint was changed on the disk is not used: it is downloaded again."""
    weights = registry.fetch(NAME, "1") / "checkpoint" / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    registry.fetch(NAME, "1")
    assert weights.read_bytes() == content
    weights.unlink()
    registry.fetch(NAME, "1")
    assert weights.read_bytes() == content


def test_a_reader_of_anothers_project_writes_nothing_into_it(place, tmp_path, monkeypatch):
    """Where the project can only be read, versions are listed and fetched all the same, into the reader's own cache."""
    version = register(place, 1).version
    monkeypatch.setattr(home, "VERSIONS", tmp_path / "none")
    monkeypatch.setattr(home, "is_read_only", lambda: True)
    monkeypatch.setattr(home, "OWN_CACHE", tmp_path / "cache")
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
    assert version in [item.version for item in registry.versions(NAME)]
    folder = registry.fetch(NAME, version)
    assert folder.is_relative_to(tmp_path / "cache")
    assert (folder / "checkpoint" / "model.json").exists()
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*")} == before


def test_a_version_that_is_damaged_in_mlflow_is_refused_and_stored_again(place):
    """Where the files in MLflow are not those that were registered the version is refused, until they are stored again."""
    shutil.rmtree(home.VERSIONS)
    (weights,) = (path for path in Path("mlruns").rglob("model.safetensors") if path.read_bytes() == saved(place, 1))
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert not registry.is_stored(NAME, "1")
    with pytest.raises(WorkspaceError, match="version 1 of shown is damaged in MLflow") as error:
        registry.fetch(NAME, "1")
    assert "`darkroom register baseline`" in error.value.remedy
    assert not list(home.VERSIONS.glob("*"))
    registry.store_again(NAME, "1", place / "model-1", place / "package-1")
    assert registry.is_stored(NAME, "1")
    assert weights.read_bytes() == saved(place, 1)


@pytest.mark.parametrize("way", ["tag", "relative path", "absolute path"])
def test_nothing_that_others_write_to_mlflow_leads_out_of_the_copies(place, way):
    """A tag or a path of a version that names a folder elsewhere is refused, and that folder keeps its files."""
    version = register(place, 1).version
    victim = place / "victim"
    victim.mkdir(exist_ok=True)
    (victim / "file.txt").write_text("mine")
    client = mlflow_client.client()
    sha256 = client.get_model_version(NAME, version).tags[registry.SHA]
    shutil.rmtree(home.VERSIONS / sha256[:32], ignore_errors=True)
    source = client.get_model_version(NAME, version).source.removeprefix("models:/")
    (description,) = (path for path in Path("mlruns").rglob("MLmodel") if source in str(path))
    before = description.read_text()
    try:
        if way == "tag":
            client.set_model_version_tag(NAME, version, registry.SHA, "../../victim")
        else:
            names = yaml.safe_load(before)
            elsewhere = str(victim) if way == "absolute path" else "../../../victim"
            names["flavors"]["python_function"]["artifacts"]["checkpoint"]["path"] = elsewhere
            description.write_text(yaml.safe_dump(names))
        with pytest.raises(WorkspaceError, match=r"SHA-256|outside"):
            registry.fetch(NAME, version)
    finally:
        client.set_model_version_tag(NAME, version, registry.SHA, sha256)
        description.write_text(before)
    assert (victim / "file.txt").read_text() == "mine"
    assert registry.fetch(NAME, version).is_relative_to(home.VERSIONS.resolve())


def saved(place: Path, seed: int) -> bytes:
    return (place / f"model-{seed}" / "model.safetensors").read_bytes()


def test_a_package_that_predicts_something_else_is_not_registered(place):
    """A package whose answers are not the checkpoint's is refused, and there is no version of it."""
    folder = checkpoint(place / "model-5", 5)
    package = place / "package-5"
    (package / registry.EVALUATION).mkdir(parents=True)
    pack(place / "model-1", package)
    expected = package / registry.CHECK / "expected.npy"
    np.save(expected, np.load(expected) + 0.01)
    before = {item.version for item in registry.versions(NAME)}
    with pytest.raises(WeightsError, match="differs by"):
        registry.register(NAME, folder, package, weight_files.checkpoint_digest(folder), {registry.MODEL: "baseline"}, "")
    assert {item.version for item in registry.versions(NAME)} == before


def test_it_answers_with_its_serving_dependencies_alone(place):
    """What MLflow loads and asks imports nothing but what the version's requirements bring, and no torch."""
    folder = place / "downloaded"
    folder.mkdir()
    mlflow_client.download_model(f"models:/{NAME}/1", folder)
    required = [line.partition("==")[0] for line in (folder / "requirements.txt").read_text().split()]
    assert "torch" not in required
    code = f"""
import re, sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
seen, todo = set(), {required!r}
while todo:
    name = re.sub(r"[-_.]+", "-", todo.pop()).lower()
    if name in seen: continue
    seen.add(name)
    try: todo += [re.match(r"[\\w.-]+", line)[0] for line in requires(name) or [] if "extra ==" not in line]
    except PackageNotFoundError: pass
owners = packages_distributions()
brought = {{top for top in owners if any(re.sub(r"[-_.]+", "-", name).lower() in seen for name in owners[top])}}
known = set(owners) - {{"darkroom"}}
class Refuse:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in known and top not in brought: raise ModuleNotFoundError(f"{{name}} is not among the requirements", name=name)
sys.meta_path.insert(0, Refuse())
sys.path[:] = [place for place in sys.path if not place.endswith("/src")]
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in str(finder)]
import mlflow, pandas
model = mlflow.pyfunc.load_model({str(folder)!r})
import darkroom
assert {str(folder)!r} in darkroom.__file__, darkroom.__file__
image = open({str(place / "package-1" / "check" / "0.png")!r}, "rb").read()
answer = model.predict(pandas.DataFrame({{"image": [image, b"no image"]}}))
print(answer.label[0], sum(answer.probabilities[0].values()), answer.error[1], answer.label[1])
print({{"torch", "torchvision", "safetensors", "dvc", "prefect"}} & set(sys.modules))
"""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    words = done.stdout.split()
    assert words[0] in ("a", "b")
    assert float(words[1]) == pytest.approx(1, abs=1e-5)
    assert done.stdout.splitlines()[-1] == "set()"
    assert done.stdout.splitlines()[-2].endswith("None")


def test_the_ledger_says_who_was_champion(place):
    """Every change is a line, the champion follows, and crowning the champion changes nothing."""
    for version in ("1", "1", "2"):
        registry.promote(NAME, version, "because")
        assert registry.champion(NAME).version == version
    lines = registry.ledger(NAME)
    assert [(line.version, line.previous, line.why, line.by) for line in lines] == [
        ("1", "", "because", "register"), ("2", "1", "because", "register"),
    ]  # fmt: skip
    assert registry.champion_history(lines) == ["1", "2"]
    registry.promote(NAME, "1", "worse", by=registry.ROLLBACK, overridden="validation, every class")
    assert registry.champion_history(registry.ledger(NAME)) == ["1"]
    assert registry.ledger(NAME)[-1].overridden == "validation, every class"


def test_the_verdict_is_part_of_a_version(place):
    """A version has the verdict and the names of the checks that failed, also after it has passed."""
    for verdict, failed, text in (("vetoed", "validation, latency", "vetoed (validation, latency)"), ("passed", "none", "passed")):
        registry.describe(NAME, "1", {entities.VERDICT: verdict, entities.FAILED: failed}, "words")
        version = registry.pick(registry.versions(NAME), "1", NAME)
        assert (version.verdict, version.checks) == (verdict, text)


def test_who_may_bring_an_older_version_back():
    """A former champion, and a version that a person passed over, are left to a person; a newer version is not."""

    def line(time, version, previous="", by="register"):
        return registry.Promotion(time, version, previous, "", by)

    def reason(lines, number, created_at=0.0):
        return registry.reason_left_to_person(lines, registry.Version(number, created_at=created_at))

    gate = [line(1.0, "1"), line(5.0, "2", "1")]
    assert "version 1 was the champion until" in reason(gate, "1")
    assert reason([], "1") == reason(gate, "3") == ""
    person = [*gate, line(9.0, "1", "2", "rollback")]
    assert "version 2 was the champion until" in reason(person, "2")
    assert "a person made version 1 the champion by rollback" in reason(person, "3", created_at=8.0)
    assert reason(person, "3", created_at=10.0) == ""
    assert reason([*gate[:1], line(5.0, "3", "2")], "1") == "version 1 was the champion before"  # an alias was moved in MLflow


def test_a_rollback_goes_further_back_each_time():
    """What was rolled back from is not gone back to."""

    def line(version, by="register"):
        return registry.Promotion(0.0, version, "", "", by)

    assert registry.champion_history([line("1"), line("2"), line("3"), line("2", "rollback")]) == ["1", "2"]
    assert registry.champion_history([line("1"), line("2"), line("3"), line("2", "rollback"), line("1", "rollback")]) == ["1"]
    assert registry.champion_history([line("1"), line("2"), line("1"), line("3"), line("1", "rollback")]) == ["1", "2", "1"]
    assert registry.champion_history([line("2", "rollback")]) == ["2"]  # an older ledger was lost


def test_a_model_of_somebody_else_is_named():
    """A version that Darkroom did not make is a mistake with a remedy, and leaves nothing behind."""
    import mlflow
    from mlflow.pyfunc import PythonModel

    class Other(PythonModel):
        def predict(self, context, model_input, params=None):
            return model_input

    client = mlflow_client.client()
    mlflow.set_tracking_uri(home.uri())
    mlflow.set_registry_uri(home.uri())
    mlflow.pyfunc.log_model(name="other", python_model=Other(), registered_model_name="other", pip_requirements=[])
    assert client.get_model_version("other", "1")
    before = set(home.VERSIONS.iterdir())
    with pytest.raises(WorkspaceError, match="no model of Darkroom's"):
        registry.fetch("other", "1")
    assert set(home.VERSIONS.iterdir()) == before


def test_a_version_that_cannot_answer_is_refused(place):
    """A version whose weights are no numbers is never made champion by `promote`."""
    folder = checkpoint(place / "model-3", 3)
    (place / "package-3" / registry.EVALUATION).mkdir(parents=True)
    pack(folder, place / "package-3")  # as it was before its weights were damaged
    change_weights(folder, lambda tensors: {key: value / 0 for key, value in tensors.items()})
    version = register(place, 3).version
    with pytest.raises(WeightsError, match="NaN"):
        model_check.check(NAME, version)
    shutil.rmtree(home.VERSIONS)


def test_versions_and_the_champion_come_back_without_a_backup(place, tmp_path, monkeypatch, empty_database):
    """After the loss of mlflow.db the packages in mlruns/ are versions again, in their order, and answer.

    The champion, and the version with the alias int8, are those of promotion.json.
    """
    for name in ("mlruns", "model-1", "model-2", "package-1", "package-2"):
        shutil.copytree(place / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(mlflow_client, "_make", lambda working: shutil.copy(empty_database, working))
    first, second = (weight_files.checkpoint_digest(Path(f"model-{seed}")) for seed in (1, 2))
    check = {"name": "accuracy", "passed": True}
    verdict = {"passed": True, "vetoed": False, "message": "passed all 1 checks", "checks": [check]}
    decision = {"accuracy": 0.9, "val_accuracy": 0.8, "verdict": verdict}
    decision["registered"] = {"name": NAME, "aliases": ["champion", "int8"]}
    restored = restore.restore(NAME, {first: decision}, weight_files.checkpoint_digest)
    assert (restored.backup, restored.former, restored.champion) == (None, None, "1")
    assert restored.versions == ["1", "2", "3"]  # the third cannot answer, as before
    versions = registry.versions(NAME)
    assert {item.version: item.sha256 for item in versions if item.version != "3"} == {"1": first, "2": second}
    assert {alias: item.version for item in versions for alias in item.aliases} == {"champion": "1", "int8": "1"}
    champion = registry.champion(NAME)
    assert (champion.version, champion.verdict, champion.tags["val_accuracy"]) == ("1", entities.PASSED, "0.8000")
    assert "promotion.json" in registry.ledger(NAME)[-1].why
    model_check.check(NAME, "2")
    assert (registry.fetch(NAME, "1") / "evaluation" / "trained-on.txt").read_text() == "1\n"
    assert restore.restore(NAME, {}, weight_files.checkpoint_digest) is None
