"""The registered model in a real MLflow on SQLite: versions, champion, ledger."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from darkroom.errors import WeightsError, WorkspaceError
from darkroom.models import digests
from darkroom.models.checkpoint import Checkpoint, save, save_tensors
from darkroom.models.network import Network, Preprocessing, build_features
from darkroom.tracking import asking, registry

NAME = "shown"


def checkpoint(folder: Path, seed: int) -> Path:
    """Write a small network as a checkpoint."""
    architecture = {"family": "compact", "image_size": 16, "width": 4}
    made = Checkpoint("baseline", architecture, Preprocessing(16, "crop", (0, 0, 0), (0.5,) * 3, (0.5,) * 3), ("a", "b"), {}, {})
    network = Network(build_features(architecture, seed), made.preprocessing, 2, seed)
    folder.mkdir(parents=True)
    save(folder, made, network.state_dict(), 1, [{"epoch": 1.0}])
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("registry")


@pytest.fixture(autouse=True)
def here(place, monkeypatch):
    monkeypatch.chdir(place)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):  # which MLflow sets, to be as before afterwards
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(asking, "ask", lambda question, uri: None)  # this process does it


def register(place: Path, seed: int) -> registry.Version:
    folder = place / f"model-{seed}"
    if not folder.exists():
        checkpoint(folder, seed)
    kept = place / f"kept-{seed}"
    kept.mkdir(exist_ok=True)
    (kept / "trained-on.txt").write_text(f"{seed}\n")
    tags = {registry.MODEL: "baseline", "test_accuracy": "0.9"}
    return registry.register(NAME, folder, kept, digests.checkpoint(folder), tags, "words")


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


def test_what_was_registered_comes_back(place):
    """The checkpoint and what is kept beside it are downloaded, byte for byte, and answer."""
    folder = registry.fetch(NAME, "1")
    for file in ("model.safetensors", "model.json", "history.csv"):
        assert (folder / "checkpoint" / file).read_bytes() == (place / "model-1" / file).read_bytes()
    assert (folder / "evaluation" / "trained-on.txt").read_text() == "1\n"
    registry.check(NAME, "1")


def test_the_ledger_says_who_was_champion(place):
    """Every change is a line, the champion follows, and crowning the champion changes nothing."""
    for version in ("1", "1", "2"):
        registry.crown(NAME, version, "because")
        assert registry.champion(NAME).version == version
    lines = registry.ledger(NAME)
    assert [(line.version, line.previous, line.why, line.by) for line in lines] == [
        ("1", "", "because", "register"), ("2", "1", "because", "register"),
    ]  # fmt: skip
    assert registry.reigns(lines) == ["1", "2"]
    registry.crown(NAME, "1", "worse", by=registry.ROLLBACK)
    assert registry.reigns(registry.ledger(NAME)) == ["1"]


def test_a_rollback_goes_further_back_each_time():
    """What was rolled back from is not gone back to."""

    def line(version, by="register"):
        return registry.Crowning(0.0, version, "", "", by)

    assert registry.reigns([line("1"), line("2"), line("3"), line("2", "rollback")]) == ["1", "2"]
    assert registry.reigns([line("1"), line("2"), line("3"), line("2", "rollback"), line("1", "rollback")]) == ["1"]
    assert registry.reigns([line("1"), line("2"), line("1"), line("3"), line("1", "rollback")]) == ["1", "2", "1"]
    assert registry.reigns([line("2", "rollback")]) == ["2"]  # an older ledger was lost


def test_a_model_of_somebody_else_is_named():
    """A version that Darkroom did not make is a mistake with a remedy, and leaves nothing behind."""
    import mlflow
    from mlflow.pyfunc import PythonModel

    from darkroom.tracking import store

    class Other(PythonModel):
        def predict(self, context, model_input, params=None):
            return model_input

    client = store.client()
    mlflow.set_tracking_uri(store.uri())
    mlflow.set_registry_uri(store.uri())
    mlflow.pyfunc.log_model(name="other", python_model=Other(), registered_model_name="other", pip_requirements=[])
    assert client.get_model_version("other", "1")
    before = set(registry.VERSIONS.iterdir())
    with pytest.raises(WorkspaceError, match="no model of Darkroom's"):
        registry.fetch("other", "1")
    assert set(registry.VERSIONS.iterdir()) == before


def test_a_version_that_cannot_answer_is_refused(place):
    """A version whose weights are no numbers is never made champion by hand."""
    folder = checkpoint(place / "model-3", 3)
    from safetensors.torch import load_file

    tensors = load_file(folder / "model.safetensors")
    save_tensors(folder / "model.safetensors", {key: value / 0 for key, value in tensors.items()})
    version = register(place, 3).version
    with pytest.raises(WeightsError, match="no number"):
        registry.check(NAME, version)
    shutil.rmtree(registry.VERSIONS)
