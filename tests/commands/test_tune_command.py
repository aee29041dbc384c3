"""`darkroom tune`: what it prints and writes, and that it goes on."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from darkroom import cli
from darkroom.commands import tune
from darkroom.config import params, recipes
from darkroom.evaluation import selection_bias
from darkroom.evaluation.significance import Interval
from darkroom.lab import backbone_embeddings
from darkroom.models import factory, tensor_files
from darkroom.stages import finetune, transfer
from darkroom.tracking import records
from darkroom.training import embedding
from darkroom.tuning import candidates, heads, search
from tests.conftest import ROOT

pytestmark = pytest.mark.slow
NAME, OTHER = "squeezenet1_1", "shufflenet_v2_x0_5"
KEPT = 12  # heads: after two trials, of which one embeds at a larger size
KILLED = f"""
import sys, time
from darkroom import cli
from darkroom.lab import backbone_embeddings
from darkroom.models import factory, tensor_files
from darkroom.stages import finetune, transfer

count, train = 0, transfer.train_head

def train_some(*arguments, **options):
    global count
    head = train(*arguments, **options)
    count += 1
    if count > {KEPT}:
        print("a head is trained, and not kept", flush=True)
        time.sleep(600)
    return head

transfer.train_head = train_some
sys.exit(cli.main(sys.argv[1:]))
"""
TUNE = ["tune", "--only", "heads", "--minutes", "5", "--trials", "4", "--json"]


@pytest.fixture
def project(folder, tmp_path, monkeypatch, capsys) -> Path:
    """Return a project with the images of a folder ingested at 32 pixels, and random weights."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DARKROOM_TRACKING", "off")
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    Path("data").mkdir()
    shutil.copy(ROOT / "data/label_fixes.csv", "data")
    requested = {
        "backbones": [NAME], "ingest.source": str(folder), "fetch.datasets": [], "ingest.image_size": 32,
        "weights.source": "random", "augment.views": 2, "transfer.epochs": 3,
    }  # fmt: skip
    recipes.apply(Path("params.yaml"), requested, lambda settings: None)
    assert cli.main(["ingest", "--out", "data/ingested", "--report", "reports/data.html", "--fixes", "data/label_fixes.csv"]) == 0
    capsys.readouterr()
    return tmp_path


@pytest.fixture
def trained(monkeypatch) -> list[int]:
    """Return a list that has an item for each head that this process trains."""
    heads, train = [], transfer.train_head

    def count(*arguments, **options):
        heads.append(len(heads))
        return train(*arguments, **options)

    monkeypatch.setattr(transfer, "train_head", count)
    return heads


def test_a_search_that_was_killed_goes_on(project, capsys, trained, monkeypatch):
    """After SIGKILL no head that was kept is trained again, nothing is embedded twice, and what is printed is that of a search that
    nothing disturbed."""
    assert cli.main(TUNE) == 0
    whole, count = json.loads(capsys.readouterr().out), len(trained)
    shutil.rmtree(".darkroom/tune")
    path = os.pathsep.join((str(ROOT / "src"), str(ROOT)))
    command = [sys.executable, "-c", KILLED, *TUNE]
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.PIPE, text=True) as process:
        assert any("not kept" in line for line in process.stdout), "the search ended before it was killed"
        process.kill()
    trained.clear()
    monkeypatch.setattr(embedding, "run_network", lambda *_: pytest.fail("it embeds again"))
    assert cli.main(TUNE) == 0
    assert json.loads(capsys.readouterr().out) == whole
    assert len(trained) == count - KEPT > 0


def test_it_prints_the_same_again_and_never_needs_test_images(project, capsys, monkeypatch):
    """A second call embeds nothing and says the same; test images have no part in it; without --write params.yaml is as it was."""
    shutil.rmtree("data/ingested/test")
    before = Path("params.yaml").read_text()
    assert cli.main(TUNE) == 0
    first = json.loads(capsys.readouterr().out)
    assert [trial["number"] for trial in first["trials"]] == [0, 1, 2, 3]
    assert first["recipe"] == 0
    monkeypatch.setattr(embedding, "run_network", lambda *_: pytest.fail("it embeds again"))
    assert cli.main(TUNE) == 0
    assert json.loads(capsys.readouterr().out) == first
    assert Path("params.yaml").read_text() == before
    assert cli.main(TUNE[:-1]) == 0
    text = capsys.readouterr().out
    assert "gained" in text
    assert "4 trials" in text


def test_the_best_is_written_and_comments_stay(project, capsys, monkeypatch):
    """--write changes what `changes` lists, and nothing else; comments stay, and the file is valid."""
    before = Path("params.yaml").read_text().splitlines()
    monkeypatch.setattr(search.Search, "best", lambda self, phase="": self.trials[-1])
    assert cli.main([*TUNE, "--write", "always"]) == 0
    changes = json.loads(capsys.readouterr().out)["changes"]
    assert changes
    after = Path("params.yaml").read_text().splitlines()
    changed = [new for old, new in zip(before, after, strict=True) if old != new]
    assert len(changed) == len(changes)
    content = params.read().model_dump(by_alias=True)
    assert all(content[key.partition(".")[0]][key.partition(".")[2]] == value for key, value in changes.items())


@pytest.mark.parametrize("is_gained", [False, True])
def test_only_a_gain_is_written(is_gained, project, capsys, monkeypatch):
    """--write alone writes settings that gain beyond chance; where none is shown params.yaml stays, and the last line says what
    writes them."""
    low = 0.01 if is_gained else -0.01
    gain = selection_bias.Gain(Interval(0.02, low, 0.05), Interval(-0.01, -0.02, 0.01), 0.02, -0.01)
    monkeypatch.setattr(search.Search, "gain", lambda self: gain)
    monkeypatch.setattr(search.Search, "best", lambda self, phase="": self.trials[-1])
    before = Path("params.yaml").read_text()
    assert cli.main([*TUNE[:-1], "--write"]) == 0
    assert (Path("params.yaml").read_text() != before) == is_gained
    assert ("--write always writes this" in capsys.readouterr().out) != is_gained


@pytest.fixture
def weights(project, monkeypatch) -> Path:
    """Return a folder with the weights of the project's backbone and of another one, which the project reads; no other weights are
    at hand."""
    monkeypatch.setattr(candidates, "_of_packages", list)
    monkeypatch.setattr(candidates, "_cached", list)
    Path("w").mkdir()
    for name in (NAME, OTHER):
        tensor_files.save(Path(f"w/{name}.safetensors"), factory.build_backbone(factory.backbone_spec(name, 32)).weights())
    recipes.apply(Path("params.yaml"), {"weights.source": "folder", "weights.folder": "w"}, lambda settings: None)
    return Path("w")


def test_backbones_whose_weights_are_at_hand_are_tried_too(weights, capsys, monkeypatch):
    """Without --backbones those whose weights are in the folder are candidates, and a line says so and how to add some; with it
    they are not. A choice of one is written, with where its weights come from."""
    assert cli.main(TUNE) == 0
    output = capsys.readouterr()
    assert json.loads(output.out)["backbones"] == [NAME, OTHER]
    assert f"{OTHER} is tried too: its weights are at hand (w/{OTHER}.safetensors)" in output.err
    assert "more backbones: " in output.err
    trial = json.loads(output.out)["trials"][1]
    assert (trial["backbone"], trial["ingest.image_size"]) == (OTHER, 32)
    monkeypatch.setattr(search.Search, "best", lambda self, phase="": self.trials[min(1, len(self.trials) - 1)])
    assert cli.main([*TUNE, "--write", "always"]) == 0
    assert json.loads(capsys.readouterr().out)["changes"]["backbones"] == [OTHER]
    assert params.read().backbones == [OTHER]
    assert cli.main([*TUNE, "--backbones", NAME]) == 0
    output = capsys.readouterr()
    assert json.loads(output.out)["backbones"] == [NAME]
    assert "at hand" not in output.err


def test_a_backbone_that_would_take_too_long_is_named(weights, capsys, monkeypatch):
    """A candidate that nobody named is left out before it embeds where it is slower than --max-ms or than the time allows, and
    where its weights are damaged; a line says which and why."""
    monkeypatch.setattr(backbone_embeddings, "milliseconds", lambda engine, images: 1e6)
    with pytest.raises(heads.TooSlowError):
        heads.Pool.embed(tune.load_pool(params.read()), OTHER, "folder", weights, 10.0)
    assert cli.main(TUNE) == 0
    output = capsys.readouterr()
    assert json.loads(output.out)["backbones"] == [NAME]
    assert re.search(rf"{OTHER} is not tried: embedding takes .*; raise --minutes", output.err)
    (weights / f"{OTHER}.safetensors").write_bytes(b"damaged")
    assert cli.main(TUNE) == 0
    assert f"{OTHER} is not tried: " in capsys.readouterr().err


def test_fine_tuning_is_searched_after_heads_and_written(project, capsys, monkeypatch):
    """Both kinds are searched, without test images; --write writes what fine-tuning and the policy need, and a second call says the
    same without training anything."""
    shutil.rmtree("data/ingested/test")
    few = {"finetune.epochs": 2, "augment.policy": "light", "finetune.warmup_epochs": 0}
    recipes.apply(Path("params.yaml"), few, lambda settings: None)
    tune = [word for word in TUNE if word not in ("--only", "heads")]
    assert cli.main(tune) == 0
    output = capsys.readouterr()
    first = json.loads(output.out)
    assert [trial["phase"] for trial in first["trials"]] == 4 * ["heads"] + 4 * ["finetune"]
    assert "not searched" not in output.err
    monkeypatch.setattr(finetune, "train_blocks", lambda *_: pytest.fail("it trains again"))
    assert cli.main(tune) == 0
    assert json.loads(capsys.readouterr().out) == first
    best = search.Search.best
    monkeypatch.setattr(search.Search, "best", lambda self, phase="": best(self, phase) if phase else self.trials[-1])
    assert cli.main(tune[:-1]) == 0
    assert "fine-tuned networks" in capsys.readouterr().out
    assert cli.main([*tune, "--write", "always"]) == 0
    last = json.loads(capsys.readouterr().out)
    trial = last["trials"][-1]
    assert last["changes"]
    assert last["changes"].items() <= trial.items()
    content = params.read().model_dump(by_alias=True)
    written = {key: content[key.partition(".")[0]][key.partition(".")[2]] for key in last["changes"]}
    assert written == last["changes"]


def test_too_little_time_is_said(project, capsys):
    """With a time that is too short for fine-tuning heads alone are searched, and a message names the minutes that would do."""
    assert cli.main(["tune", "--minutes", "0.05", "--trials", "1", "--json"]) == 0
    output = capsys.readouterr()
    assert "fine-tuning is not searched" in output.err
    assert re.search(r"`--minutes [1-9]\d*` has time", output.err)
    assert {trial["phase"] for trial in json.loads(output.out)["trials"]} == {"heads"}


def test_an_interrupt_tells_the_best_so_far(project, capsys, monkeypatch):
    """Ctrl-C ends the search with its result, exit code 0; before the first trial it ends the command."""
    run = search.Search.run
    calls = [2, 0]

    def interrupted(self, is_over, on_trial, resize):
        run(self, lambda trials: len(trials) > calls[0], on_trial) if calls[0] else None
        raise KeyboardInterrupt

    monkeypatch.setattr(search.Search, "run", interrupted)
    assert cli.main(TUNE) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["interrupted"]
    assert len(result["trials"]) == 3
    calls[0] = 0
    assert cli.main(TUNE) == 130


def test_every_trial_is_a_run_below_that_of_the_search(project, capsys, monkeypatch):
    """MLflow gets a run of the search and one for each trial, with its values."""
    started: list[tuple] = []
    start = records.start_run

    def note(stage, values, inputs, name="", parent=None):
        started.append((name, parent is not None, dict(values)))
        return start(stage, values, inputs, name, parent)

    monkeypatch.setattr(records, "start_run", note)
    assert cli.main(TUNE) == 0
    assert [(name, below) for name, below, _ in started] == [("", False), *((f"trial {i}", True) for i in range(4))]
    assert started[1][2]["transfer.lr"] == params.read().transfer.lr


def test_mistakes_have_remedies(project, capsys):
    """No backbone under --max-ms, an unknown source of weights and no backbones are mistakes with a remedy."""
    before = Path("params.yaml").read_text()
    assert cli.main([*TUNE, "--max-ms", "0.0001"]) == 2
    assert "raise --max-ms" in capsys.readouterr().err
    assert cli.main([*TUNE, "--backbones", "../x"]) == 2
    assert "cannot be the name of a backbone" in capsys.readouterr().err
    assert Path("params.yaml").read_text() == before
    recipes.apply(Path("params.yaml"), {"backbones": [], "weights.source": "pretrain"}, lambda settings: None)
    assert cli.main(TUNE) == 2
    assert "--backbones" in capsys.readouterr().err
    assert cli.main([*TUNE, "--backbones", NAME]) == 2
    assert f"dvc repro weights@{NAME}" in capsys.readouterr().err
    shutil.rmtree("data/ingested")
    assert cli.main(TUNE) == 2


def test_a_verdict_says_what_is_chance(project, capsys, monkeypatch):
    """Where both intervals hold 0 nothing is gained beyond chance; where accuracy's does not, its points are named."""
    interval = selection_bias.Interval
    gain = selection_bias.Gain(interval(0.021, 0.004, 0.039), interval(-0.1, -0.2, 0.1), 0.03, -0.2)
    monkeypatch.setattr(search.Search, "best", lambda self, phase="": self.trials[-1])
    monkeypatch.setattr(search.Search, "gain", lambda self: gain)
    assert cli.main(TUNE[:-1]) == 0
    assert "gained 2.1 points of accuracy (+0.4 to +3.9) over params.yaml" in capsys.readouterr().out
    chance = selection_bias.Gain(interval(0.021, -0.004, 0.039), interval(-0.1, -0.2, 0.1), 0.03, -0.2)
    monkeypatch.setattr(search.Search, "gain", lambda self: chance)
    assert cli.main(TUNE[:-1]) == 0
    assert "nothing is gained beyond chance: +2.1 points" in capsys.readouterr().out
