"""What `darkroom tidy --older-than` removes from MLflow, and what it never does."""

from __future__ import annotations

from pathlib import Path

import pytest

from darkroom.tracking import history, mlflow_client, registry
from darkroom.tracking.entities import OUTPUTS, PARENT, PIPELINE, REUSED, SHA, STAGE, Run, Version

NAME = "shown"
OLD, NEW = 100.0, 200.0
BEFORE = 150.0


def run(identity: str, pipeline: str, started: float = OLD, **tags: str) -> Run:
    names = {"sha": SHA, "reused": REUSED, "outputs": OUTPUTS, "parent": PARENT}
    return Run(
        identity, identity, "FINISHED", started, tags={PIPELINE: pipeline} | {names[key]: text for key, text in tags.items()}
    )


def version(number: int, created: float = OLD, *aliases: str) -> Version:
    return Version(str(number), sha256=f"sha-{number}", created_at=created, aliases=list(aliases))


def test_what_a_kept_version_refers_to_stays():
    """Its run, the whole pipeline, and the runs that made what the pipeline reused stay; other old runs do not."""
    runs = [
        run("parent", "p"), run("trained", "p", sha="sha-1", parent="parent"), run("reused", "p", reused="maker", parent="parent"),
        run("maker", "q", parent="other parent"), run("other parent", "q"), run("sibling of the maker", "q", parent="other parent"),
        run("trained 2", "r", sha="sha-2"), run("old", "s"), run("of today", "s", outputs="today"), run("new", "t", NEW),
    ]  # fmt: skip
    expired = history.select([version(1, OLD, "champion"), version(2), version(3, NEW)], [], runs, BEFORE, 1, {"today"})
    assert expired.versions == ["2"]
    assert set(expired.runs) == {"sibling of the maker", "trained 2", "old"}


def test_the_newest_versions_and_the_last_champions_stay():
    """`keep` counts versions by number, and champions by when they reigned; an alias protects without limit."""
    versions = [version(1, OLD, "mine"), *map(version, range(2, 10))]
    assert history.select(versions, ["2", "3", "4"], [], BEFORE, 2, set()).versions == ["2", "5", "6", "7"]
    assert history.select(versions, ["2", "3", "4"], [], OLD, 2, set()).versions == []


@pytest.mark.slow
def test_a_removal_takes_files_and_rows_and_can_be_repeated(workspace, tmp_path):
    """Files, runs and versions are gone; those that stay are whole; and what a killed removal has begun is completed."""
    client = mlflow_client.client()
    experiment = mlflow_client.experiment(client)
    places: dict[str, list[Path]] = {}
    (tmp_path / "note.txt").write_text("a note")
    for number in "12":
        info = client.create_run(experiment, tags={STAGE: "baseline", SHA: f"sha-{number}"}).info
        client.log_artifact(info.run_id, str(tmp_path / "note.txt"))
        client.log_metric(info.run_id, "accuracy", 1.0)
        package = tmp_path / f"package-{number}"
        package.mkdir()
        (package / "MLmodel").write_text("flavors: {}\n")
        tags = {SHA: f"sha-{number}", registry.MODEL: "baseline"}
        assert registry.add_version(client, NAME, tags, "", lambda _, package=package: package) == number
        model = client.get_model_version(NAME, number).source.removeprefix("models:/")
        places[number] = [Path(info.artifact_uri, "note.txt"), Path(client.get_logged_model(model).artifact_location, "MLmodel")]
        assert all(path.exists() for path in places[number])
    first = next(item.id for item in history.queries.runs() if item.tags[SHA] == "sha-1")
    places["1"][1].unlink()  # a kill has come between
    history.remove(NAME, ["1"], [first])
    assert not any(path.parent.parent.exists() for path in places["1"])
    assert all(path.exists() for path in places["2"])
    assert [item.version for item in registry.versions(NAME)] == ["2"]
    assert [item.tags[SHA] for item in history.queries.runs()] == ["sha-2"]
