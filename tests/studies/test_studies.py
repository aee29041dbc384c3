"""Every study, at a tiny size: what it writes, what it repeats, and what a mistake is answered with."""

from __future__ import annotations

import copy
import csv
import json
from pathlib import Path

import pytest

from darkroom.commands.study import main
from darkroom.config import study_params
from darkroom.config.params import read_yaml
from darkroom.core.errors import DarkroomError, ParamsError
from darkroom.studies.registry import NAMES, study
from tests.completion import completions

TINY = ["images=64", "seeds=3", "batch_size=32", "looks=1", "image_size=8", "held_out=0.5"]
TIMED = ["epochs=1", "warmup_epochs=0"]
OWN = {
    "initialization": [*TIMED, "hidden=[16]", "schemes=[kaiming,zeros,lsuv]", "networks=[mlp,cnn]"],
    "architecture": ["budget=0.05", "architectures={mlp: {hidden: [8]}, resnet8: {width: 4}}"],
    "depth": [*TIMED, "depths=[8,20]", "width=4"],
    "bottleneck": [*TIMED, "width=0.05"],
    "separable": [*TIMED, "width=0.1"],
    "scaling": [*TIMED, "image_size=32", "base_size=16", "width=0.1", "factors=[2]"],
    "augmentation": [*TIMED, "architecture=mlp", "options={hidden: [8]}", "policies=[none,light]", "policy=light", "views=[1,0]"],
    "transfer": [
        "steps=2", "few=32", "learning=[16,32]", "blocks=[1]", "options={width: 4}", "before_images=32", "before_steps=2",
    ],
    "optimizer": [*TIMED, "architecture=mlp", "options={hidden: [8]}", "optimizers=[sgd,adam]", "batch_sizes=[16,32]"],
    "practice": [*TIMED, "width=4", "together=2", "policy=light"],
    "tune": [
        "epochs=2", "architecture=mlp", "options={hidden: [8]}", "budget=2", "batch_size=16",
        "space={lr: {low: 0.001, high: 0.1, log: true}, optimizer: {choices: [adamw, sgd]}}",
    ],
}  # fmt: skip
WRITTEN = {"results.csv", "curves.csv", "layers.csv", "summary.json", "index.html"}

FURTHER = {"tune": {"trials.csv"}}


def run(name: str, *more: str) -> Path:
    assert main([name, "--set", *TINY, *OWN[name], *more]) == 0
    return Path("reports/studies") / name


@pytest.fixture(autouse=True)
def one_process(workspace):
    """Train in this process, which has torch in memory."""
    file = workspace / "studies" / "params.yaml"
    file.write_text(file.read_text().replace("processes: 2", "processes: 1"))


@pytest.mark.parametrize("name", NAMES)
def test_every_study_writes_its_results(name):
    """A row per member and seed, a line per label with its interval, a picture below 200 KB, a page, and costs apart."""
    folder = run(name)
    assert {path.name for path in folder.iterdir()} == WRITTEN | FURTHER.get(name, set()) | {f"{name}.png"}
    rows = list(csv.DictReader((folder / "results.csv").open()))
    summary = json.loads((folder / "summary.json").read_text())
    assert len(rows) == sum(line["seeds"] for line in summary["lines"])
    assert {"0", "1", "2"} <= {row["seed"] for row in rows}
    assert all(0 <= line["accuracy"] <= 1 and line["multiply_adds"] > 0 for line in summary["lines"])
    assert (folder / f"{name}.png").stat().st_size < 200_000
    page = (folder / "index.html").read_text()
    assert 'src="data:image/png' in page
    assert "http" not in page.replace("http-equiv", "")
    assert "seconds" not in (folder / "results.csv").read_text()
    assert len((folder.parent / "cost" / name / "cost.csv").read_text().splitlines()) == len(rows) + 1
    assert (folder.parent / "cost" / name / "latency.png").stat().st_size < 100_000


@pytest.mark.parametrize("size", study_params.SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_members_differ_in_one_thing(name, size):
    """Within a panel and a seed members have the same steps, batches, rates and images: they differ in what the study varies."""
    made = study(name)
    settings = getattr(getattr(study_params.parse(read_yaml(Path("studies/params.yaml"))), name), size)
    members = made.members(settings, 100)
    assert len({member.seed for member in members}) >= 3
    assert len(set(map(repr, members))) == len(members)
    for one in members:
        other = next(m for m in members if (m.panel, m.seed) == (one.panel, one.seed))
        differ = {key for key in vars(one) if getattr(one, key) != getattr(other, key)}
        assert differ <= {"label", *made.VARIES}, differ


def test_a_second_run_trains_nothing_and_writes_the_same(monkeypatch):
    """Outputs depend on settings and images alone: run again from what is remembered, or trained again, they are the same bytes."""
    import shutil

    from darkroom.studies import trainer

    folder = run("initialization")
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    shutil.rmtree(".darkroom/studies")
    run("initialization")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first
    monkeypatch.setattr(trainer, "train", None)
    run("initialization")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["intialization"], 'did you mean "initialization"'),
        (["depth", "--set", "epochz=1"], 'unknown key "depth.quick.epochz" (did you mean "epochs"?)'),
        (["depth", "--set", "seeds=2"], "depth.quick.seeds"),
        (["initialization", "--set", "schemes=[kaiming,xavir]"], 'did you mean "xavier"'),
        (["depth", "--set", "seeds"], "KEY=VALUE"),
        (["depth", "--set", "depths=[8,"], "is not a YAML value for depths"),
        ([], "which study"),
        (["depth", "--set", "data=digts"], 'there are no images "digts" (did you mean "digits"?)'),
        (["transfer", "--set", *TINY, *OWN["transfer"], "sources=[rotatons]"], 'did you mean "rotations"'),
        (["transfer", "--set", "sources=[random]"], "random is there without being named"),
        (["transfer", "--set", *TINY, *OWN["transfer"], "sources=[inner]"], "there are no images"),
        (["transfer", "--set", *TINY, *OWN["transfer"], "blocks=[8]"], "the network has 8"),
        (["optimizer", "--set", "optimizers=[sgd,sgd]"], "optimizers names something twice"),
        (["practice", "--set", "ways=[plain,plain]"], "ways names something twice"),
        (["scaling", "--set", "base_size=64"], "base_size is larger than image_size"),
        (["augmentation", "--set", *TINY, "architecture=nope"], 'there is no architecture "nope"'),
        (["augmentation", "--set", *TINY, "options={width: -3}"], "cannot be built"),
        (["augmentation", "--set", "views=[-1,1]"], "`git diff studies/params.yaml` shows what changed, or what --set says"),
        (["depth", "--out", "."], "is not what a study has written"),
        (["depth", "--out", "a", "--cost", "a/b"], "within each other"),
    ],
)
def test_a_mistake_names_its_remedy(arguments, said):
    """Unknown studies, keys, values and schemes are one message with the nearest neighbour."""
    with pytest.raises(DarkroomError) as error:
        main(arguments)
    assert said in str(error.value)


def test_the_list_names_every_study(capsys):
    """`darkroom study --list` has a line for each study, and the shell completes their names."""
    assert completions("study", "de") == ["depth"]
    main(["--list"])
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(NAMES)


def test_a_missing_file_says_where_to_go(workspace):
    """Outside of a project the message says in which folder to run the command."""
    (workspace / "studies" / "params.yaml").unlink()
    with pytest.raises(ParamsError, match="run the command in the folder"):
        main(["depth"])


def test_each_member_is_recorded_once(monkeypatch, workspace, own_mlflow):
    """A member has a run with its params, its curve and the time it took, under the study's name; what is remembered has none."""
    from darkroom.tracking import records

    folder = workspace / "journal"
    monkeypatch.setattr(records, "RECORDS", folder)
    for _ in range(2):
        run("initialization", "networks=[mlp]")
    runs = [[json.loads(line) for line in file.read_text().splitlines()] for file in folder.glob("*/record.jsonl")]
    assert len(runs) == 9
    start = runs[0][0]
    assert start["stage"] == "study@initialization"
    assert {"study", "study.label", "study.seed", "study.scheme", "study.lr"} <= set(start["params"])
    assert {record[0]["params"]["study.label"] for record in runs} == {"kaiming", "zeros", "lsuv"}
    metrics = {key: line["values"][key] for line in runs[0] if line["kind"] == "metrics" for key in line["values"]}
    assert {"val_accuracy", "train_loss", "parameters", "multiply_adds"} <= set(metrics)
    assert metrics["duration_seconds"] < 60


@pytest.mark.parametrize("dark", [False, True])
def test_a_page_can_be_read_by_all(dark):
    """In a browser a page writes nothing to the console, asks for nothing but itself, and has no serious fault by axe-core."""
    from tests.browser import faults, opened

    folder = run("separable")
    with opened((folder / "index.html").resolve(), dark) as page:
        assert faults(page) == []


def test_a_mistake_in_a_process_is_a_mistake(workspace):
    """What a process of several finds wrong is told as by one: an error comes whole from one process to another."""

    from darkroom.core.errors import WeightsError

    error = copy.copy(WeightsError("a", "b", True))  # which is made as one from another process is
    assert (type(error), error.problem, error.remedy, error.code) == (WeightsError, "a", "b", 75)


def test_a_folder_that_is_no_study_stays_as_it_is(workspace):
    """Before anything is trained a study refuses to replace a folder that holds other files; its own it replaces."""
    (workspace / "mine").mkdir()
    (workspace / "mine" / "thesis.txt").write_text("years")
    with pytest.raises(ParamsError, match="not what a study has written"):
        run("separable", "--out", "mine")
    assert (workspace / "mine" / "thesis.txt").exists()
    run("separable")
    run("separable")
