"""`darkroom promote`, `rollback` and `leaderboard`: who is the champion, and why there is none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from darkroom import cli
from darkroom.core.errors import WorkspaceError
from darkroom.evaluation import leaderboard, metrics_io
from darkroom.tracking import model_check, registry
from darkroom.tracking.entities import Promotion, Version
from tests.completion import completions
from tests.conftest import ROOT
from tests.evaluation import example_report

PASSED = {"darkroom.verdict": "passed"}
VETOED = {
    "darkroom.verdict": "vetoed", "darkroom.failed_checks": "validation, every class",
    "darkroom.promotion": "baseline against the champion: some checks failed: validation accuracy is 0.5",
}  # fmt: skip


class Registry:
    """Versions, aliases and the ledger, without MLflow."""

    def __init__(self, *versions: Version, lines: tuple[Promotion, ...] = ()) -> None:
        self.listed, self.lines = list(versions), list(lines)

    def versions(self, name):
        return self.listed

    def ledger(self, name):
        return self.lines

    def promote(self, name, version, why, by="register", overridden=""):
        before = next((item for item in self.listed if "champion" in item.aliases), None)
        self.lines.append(Promotion(0.0, version, before.version if before else "", why, by, overridden))
        for item in self.listed:
            item.aliases[:] = [alias for alias in item.aliases if alias != "champion"] + ["champion"] * (item.version == version)


@pytest.fixture
def use(tmp_path, monkeypatch):
    """Return a function that lets commands see a registry."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.setattr(model_check, "check", lambda name, version: None)

    def replace(fake: Registry) -> Registry:
        for name in ("versions", "ledger", "promote"):
            monkeypatch.setattr(registry, name, getattr(fake, name))
        return fake

    return replace


def version(number: str, tags: dict[str, str] | None = None, *aliases: str) -> Version:
    return Version(number, "baseline", number, aliases=list(aliases), tags=tags or {})


def run(capsys, *words: str, code: int = 0):
    assert cli.main(list(words)) == code
    return capsys.readouterr()


def test_a_vetoed_version_is_promoted_by_force_with_a_reason(use, capsys):
    """`promote` refuses a vetoed version with its checks and the remedy; --force alone is not enough; the ledger keeps both."""
    fake = use(Registry(version("1", PASSED, "champion"), version("2", VETOED, "challenger")))
    for words in (["promote", "2"], ["promote", "2", "--why", "it looks better"], ["promote", "2", "--force"], ["promote"]):
        error = run(capsys, *words, code=2).err
        assert "version 2 of darkroom was vetoed" in error
        assert "validation accuracy is 0.5" in error
        assert '`darkroom promote 2 --force --why "…"`' in error
        assert ("--force needs a reason" in error) == ("--force" in words)
    assert not fake.lines
    out = run(capsys, "promote", "2", "--force", "--why", "it looks better").out
    assert "in place of version 1, baseline; its checks: vetoed (validation, every class)" in out
    assert fake.lines == [Promotion(0.0, "2", "1", "it looks better", "promote", "validation, every class")]
    history = run(capsys, "models", "--history").out
    assert "by promote against its checks (validation, every class): it looks better" in history


@pytest.mark.parametrize("tags", [PASSED, None])
def test_other_versions_need_no_force(use, capsys, tags):
    """A version that passed its checks, or has no verdict, is promoted as it is; nothing is overridden."""
    fake = use(Registry(version("1", tags)))
    run(capsys, "promote", "1", "--force")
    assert [(line.version, line.overridden) for line in fake.lines] == [("1", "")]


def test_a_rollback_at_the_end_of_history(use, capsys):
    """Each rollback goes one champion back; at the first one the message names it and the versions that were left."""
    fake = use(Registry(version("1"), version("2")))
    assert "darkroom has had no champion so far" in run(capsys, "rollback", code=2).err
    fake.promote("darkroom", "1", "")
    error = run(capsys, "rollback", code=2).err
    assert "version 1 is the first champion of darkroom in the ledger, so none is before it\n" in error
    fake.promote("darkroom", "2", "")
    assert "version 1 of darkroom, baseline, is the champion again, in place of version 2" in run(capsys, "rollback").out
    error = run(capsys, "rollback", code=2).err
    assert "version 1 is the first champion of darkroom in the ledger, so none is before it; a rollback has left version 2" in error
    assert "darkroom promote VERSION" in error


def test_a_rollback_after_an_alias_was_moved_in_mlflow(use, capsys):
    """Where the champion is not the last one of the ledger, a rollback goes to that one, and names what it replaces."""
    lines = (Promotion(1.0, "1", "", ""), Promotion(2.0, "2", "1", ""))
    use(Registry(version("1"), version("2"), version("3", None, "champion"), lines=lines))
    assert "version 2 of darkroom, baseline, is the champion again, in place of version 3" in run(capsys, "rollback").out
    use(Registry(version("1"), version("2"), lines=lines))
    assert "version 2 of darkroom, baseline, is the champion again\n" in run(capsys, "rollback").out


@pytest.fixture
def evaluated(use):
    """Write an evaluation; return a function that writes the decision of `register`."""
    Path("reports").mkdir()
    row = leaderboard.Row(
        model="baseline", kind="model", accuracy=0.9, macro_f1=0.9, parameters=1, ms_per_image=1.0, train_seconds=1.0
    )
    leaderboard.write(Path("reports/leaderboard.csv"), [row])
    labels = np.arange(10) % 2
    metrics, _ = example_report.results(("cat", "dog"), labels, {"baseline": np.eye(2)[labels] * 0.8 + 0.1})
    metrics_io.write(Path("reports/metrics.json"), metrics)

    def decide(aliases: list[str] | None, champion: str | None = None) -> None:
        registered = None if aliases is None else {"name": "darkroom", "version": "2", "aliases": aliases}
        decision = {"registered": registered, "verdict": {"champion": champion}}
        Path("reports/promotion.json").write_text(json.dumps(decision))

    return decide


@pytest.mark.parametrize(
    ("versions", "facts"),
    [
        ([], ["since nothing is registered", "version 2", "dvc repro -f -s register", "darkroom register MODEL"]),  # a clone
        ([version("1", VETOED)], ["version 1, baseline: vetoed (validation, every class)", 'promote 1 --force --why "…"']),
        ([version("1", PASSED), version("2", VETOED)], ["version 2, baseline: vetoed", "1, baseline: passed", "promote 1` makes"]),
        ([version("1")], ["version 1, baseline: not checked", "`darkroom promote 1` makes version 1 the champion"]),
        ([version(str(number), VETOED) for number in range(1, 6)], ["version 5", "version 3", "; and 2 older"]),
    ],
)
def test_why_there_is_no_champion(use, evaluated, capsys, versions, facts):
    """`leaderboard` and `predict` name the versions, the checks that failed, and what makes one the champion."""
    evaluated(["challenger"])
    use(Registry(*versions))
    text = run(capsys, "leaderboard").out
    error = run(capsys, "predict", str(ROOT / "docs/images/data.jpg"), code=2).err
    for fact in ("darkroom has no champion", *facts):
        assert fact in text
        assert fact in error
    assert "no champion" in json.loads(run(capsys, "leaderboard", "--json").out)["no_champion"]


def test_a_setting_that_promotes_nothing_is_named(use, evaluated, capsys):
    """With register.promote manual that is the reason."""
    evaluated(["challenger"])
    use(Registry(version("1", PASSED)))
    Path("params.yaml").write_text(Path("params.yaml").read_text().replace("promote: gate", "promote: manual"))
    assert "version 1, baseline: passed; register.promote is manual" in run(capsys, "leaderboard").out


def test_where_there_is_a_champion_mlflow_is_not_asked(use, evaluated, capsys, monkeypatch):
    """The decision of the last run tells; where it had no champion, a later one is looked for; without MLflow that is said."""

    def unreachable(name):
        raise WorkspaceError("MLflow cannot be used", "start the server")

    monkeypatch.setattr(registry, "versions", unreachable)
    for aliases, champion in ((["challenger", "champion"], None), (["challenger"], "version 1, baseline")):
        evaluated(aliases, champion)
        assert "no champion" not in run(capsys, "leaderboard").out
    evaluated(["challenger"])
    assert "MLflow cannot be used" in run(capsys, "leaderboard").out
    use(Registry(version("2", VETOED, "champion")))
    assert "no champion" not in run(capsys, "leaderboard").out
    evaluated(None)
    assert "the last run has registered nothing" in run(capsys, "leaderboard").out


def test_evaluated_models_are_completed(evaluated):
    """The tab key completes `darkroom register` with the models of the last evaluation that have a checkpoint."""
    assert completions("register", "b") == []
    Path("models/baseline").mkdir(parents=True)
    Path("models/baseline/model.json").touch()
    assert completions("register", "b") == ["baseline"]
    assert "--json" in completions("register", "--js")
    Path("reports/metrics.json").write_text("{")
    assert completions("register", "b") == []


def test_what_a_clone_says_of_the_decision_that_git_brought(use, evaluated, capsys):
    """Where the project's own MLflow has no version, that of promotion.json is not shown as registered; the remedy is named."""
    use(Registry())
    evaluated(["challenger", "champion"])
    for command in ("leaderboard", "models"):
        text = run(capsys, command).out
        assert "ersion 2 of darkroom in reports/promotion.json is of another MLflow" in text
        assert "`dvc repro -f -s register`" in text
        assert "It is version 2" not in text
    Path("reports/promotion.json").unlink()
    assert "`dvc repro` registers the first one" in run(capsys, "models").out
