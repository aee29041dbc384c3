"""Every study, at a tiny size: the files that it writes, and that it repeats them."""

from __future__ import annotations

import copy
import csv
import json
import math
import re
from pathlib import Path

import pytest

from darkroom.commands import study_run
from darkroom.config import study_params
from darkroom.core.errors import ParamsError, WeightsError
from darkroom.studies import registry, scaling, search, trainer
from darkroom.studies.base import Study
from darkroom.studies.scaling import METHODS
from darkroom.studies.search import RANDOM
from tests.browser import faults, opened
from tests.studies.conftest import contents, enter_recorded, read_records, run_study, split_records, studies_params

pytestmark = pytest.mark.slow

WRITTEN = {"results.csv", "curves.csv", "layers.csv", "summary.json", "index.html"}
FURTHER = {"tune": {"trials.csv"}} | {
    name: {"predictions.png"} for name in registry.NAMES if registry.load(name).shown is not Study.shown
}


@pytest.mark.parametrize("name", registry.NAMES)
def test_every_study_writes_its_results(name, results_of):
    """There are a row per run, a summary per label, pictures, and costs in a folder of their own."""
    folder = results_of(name)
    assert {path.name for path in folder.iterdir()} == WRITTEN | FURTHER.get(name, set()) | {f"{name}.png"}
    rows = list(csv.DictReader((folder / "results.csv").open()))
    summary = json.loads((folder / "summary.json").read_text())
    assert len(rows) == sum(row["seeds"] for row in summary["rows"])
    assert {"0", "1", "2"} <= {row["seed"] for row in rows}
    assert all(0 <= row["accuracy"] <= 1 and row["multiply_adds"] > 0 for row in summary["rows"])
    assert (folder / f"{name}.png").stat().st_size < 200_000
    assert "seconds" not in rows[0]
    cost = folder.parent / "cost" / name
    assert len((cost / "cost.csv").read_text().splitlines()) == len(rows) + 1
    assert (cost / "latency.png").stat().st_size < 100_000


@pytest.mark.parametrize("name", registry.NAMES)
def test_a_page_needs_nothing_else(name, results_of):
    """The page of a study has its charts inside and loads nothing; its links are the files beside it."""
    folder = results_of(name)
    page = (folder / "index.html").read_text()
    compared = {row["comparison"] for row in json.loads((folder / "summary.json").read_text())["rows"]}
    assert page.count('<div class="dots"') == len(compared)
    assert page.count("<svg") > 2 * len(compared)
    addresses = set(re.findall(r"""\b(?:src|href|action|poster)\s*=\s*["']?([^"'\s>]*)""", page))
    pictures = sum(address.startswith("data:image/png") for address in addresses)
    assert pictures == 1 + (folder / "predictions.png").exists()  # the images by class are always there
    addresses = {address for address in addresses if not address.startswith("data:")}
    assert addresses == {"#content"} | {file.name for file in folder.iterdir()} - {"index.html"}
    assert not re.search(r"@import|url\(\s*[\"']?(?!data:)", page)


def test_a_page_links_its_lesson_within_the_project(workspace, tmp_path_factory):
    """A page in the project links its lesson, from wherever it is, if there is one. A page outside does not: that address would
    be of the machine."""
    assert study_run.lesson_address("depth", Path("a/b")) is None
    Path("docs/case-studies").mkdir(parents=True)
    Path("docs/case-studies/depth.md").touch()
    assert study_run.lesson_address("depth", Path("a/b")) == "../../docs/case-studies/depth.md"
    assert study_run.lesson_address("depth", tmp_path_factory.mktemp("elsewhere")) is None


def cost_by_formula(name, size, channels, options):
    """Return depth times width² and resolution² (Tan and Le 2019, equation 3)."""
    depth = options.get("blocks") or options["depth"]
    return round(1e5 * depth * (options["width"] * size) ** 2)


@pytest.mark.parametrize("size", study_params.SIZES)
@pytest.mark.parametrize("name", registry.NAMES)
def test_runs_differ_in_one_thing(name, size, monkeypatch):
    """Runs of one comparison and seed differ in nothing but what the study varies."""
    monkeypatch.setattr(scaling, "count_multiply_adds", cost_by_formula)  # of 45 networks: most of a minute
    study = registry.load(name)(getattr(getattr(studies_params(), name), size))
    runs = study.runs(100)
    assert len({run.seed for run in runs}) >= 3
    assert len(set(map(repr, runs))) == len(runs)
    first = {}
    for run in runs:
        reference = first.setdefault((run.comparison, run.seed), run)
        different = {key for key in vars(run) if getattr(run, key) != getattr(reference, key)}
        assert different <= {"label", *study.varies}, different


def test_a_network_whose_layers_cannot_be_counted_is_not_scaled():
    """An architecture without options for its layers and channels is refused, and those that have them are named."""
    settings = studies_params().scaling.smoke.model_copy(update={"architecture": "alexnet", "options": {}})
    with pytest.raises(ParamsError) as error:
        registry.load("scaling")(settings)
    assert {"efficientnet", "residual"} <= set(re.findall(r"\w+", error.value.remedy))


def test_labels_name_the_kernel_that_is_set():
    """With another kernel the comparisons and labels of the bottlenecks say so."""
    settings = studies_params().bottleneck.quick.model_copy(update={"kernel": 3})
    runs = registry.load("bottleneck")(settings).runs(100)
    assert {run.options["kernel"] for run in runs} == {3}
    named = {text for run in runs for text in (run.comparison, run.label)}
    assert {"before 3×3", "3×3 alone", "3×3 alone, narrower"} < named
    assert not [text for text in named if "5×5" in text]


@pytest.mark.parametrize("name", ["initialization", "tune"])
def test_outputs_depend_on_settings_and_images_only(name, workspace, results_of):
    """Trained again in another folder, a study writes the same bytes."""
    assert contents(run_study(name)) == contents(results_of(name))


@pytest.mark.parametrize("name", ["initialization", "tune"])
def test_a_second_run_trains_nothing_and_writes_the_same(name, copy_of, monkeypatch):
    """Run again, a study reads the cache, writes the same bytes over its own results and records nothing."""
    project = copy_of(name)
    enter_recorded(project, monkeypatch)
    for module in (trainer, search):
        monkeypatch.setattr(module, "train", None)
    folder = project / "studies" / "results" / name
    before, recorded = contents(folder), len(read_records(project))
    run_study(name)
    assert contents(folder) == before
    assert len(read_records(project)) == recorded + 1 > 2  # the study itself, without members


def test_each_run_is_recorded_once_below_the_study(results_of):
    """The study has a record with the finding, a view of its members and its files; each run one below it, with its name, what
    it varies as params, its curve and its duration."""
    folder = results_of("initialization")
    (study,), runs = split_records(read_records(folder.parents[2]))
    key = study[0]["key"]
    assert len(runs) == 18
    names = {
        f"{net} · {scheme} · seed {seed}" for net in ("mlp", "cnn") for scheme in ("kaiming", "zeros", "lsuv") for seed in range(3)
    }
    assert {run[0]["name"] for run in runs} == names
    for start, *lines in runs:
        assert (start["stage"], start["tags"]["darkroom.member_of"]) == ("study@initialization", key)
        params = start["params"]
        assert params["member"] == f"{params['comparison']} · {params['label']}"
        assert start["name"] == f"{params['member']} · seed {params['seed']}"
        assert params["scheme"] == params["label"]
        assert params["lr"] > 0
        metrics = {key for line in lines if line["kind"] == "metrics" for key in line["values"]}
        assert {"val_accuracy", "train_loss", "parameters", "multiply_adds", "duration_seconds"} <= metrics
    (view,) = [line for line in study if line["kind"] == "view"]
    assert view["note"] == json.loads((folder / "summary.json").read_text())["finding"]
    assert key in view["state"]["searchFilter"]
    assert "params.`scheme`" in view["state"]["selectedColumns"]
    assert {line["name"] for line in study if line["kind"] == "file"} == {path.name for path in folder.iterdir()}


def test_members_that_were_cached_are_compared_too(copy_of, monkeypatch):
    """A study with one more seed trains that alone, and lists the members of before beside it, so that all can be compared."""
    project = copy_of("initialization")
    enter_recorded(project, monkeypatch)
    before = {record[0]["key"] for record in read_records(project)}
    run_study("initialization", "seeds=4")
    (_,), members = split_records([record for record in read_records(project) if record[0]["key"] not in before])
    cached = {(run[0]["params"]["seed"], any(line.get("values", {}).get("darkroom.cached") for line in run)) for run in members}
    assert len(members) == 24
    assert cached == {(0, True), (1, True), (2, True), (3, False)}


def test_each_trial_is_recorded_once(results_of):
    """A trial has a record with its sampler, its number, its state and its values."""
    folder = results_of("tune")
    rows = list(csv.DictReader((folder / "trials.csv").open()))
    _, runs = split_records(read_records(folder.parents[2]))
    tags = [{key: value for line in run if line["kind"] == "tags" for key, value in line["values"].items()} for run in runs]
    trials = [(t["darkroom.sampler"], t["darkroom.trial"], t["darkroom.state"]) for t in tags if "darkroom.trial" in t]
    # the first ten trials of TPE are those of random search, and cached
    assert sorted(trials) == sorted((row["sampler"], row["trial"], row["state"]) for row in rows if row["sampler"] == RANDOM)
    assert {run[0]["params"]["lr"] for run in runs} >= {float(row["lr"]) for row in rows if row["trial"] == "0"}


def test_results_as_json(results_of):
    """`--json` prints the finding and the rows of summary.json, and nothing else."""
    folder = results_of("separable")
    printed = json.loads((folder.parents[2] / "printed.json").read_text())
    summary = json.loads((folder / "summary.json").read_text())
    assert (printed["finding"], printed["rows"]) == (summary["finding"], summary["rows"])


def test_scaled_networks_cost_nearly_the_same(results_of):
    """In the study of scaling every method comes within a quarter of the requested multiply-adds, and is compared with
    compound scaling too, by the same runs."""
    summary = json.loads((results_of("scaling") / "summary.json").read_text())
    (factor,) = summary["settings"]["factors"]
    base, *scaled = (row["multiply_adds"] for row in summary["rows"] if row["comparison"] == f"×{factor:g}")
    assert len(scaled) == len(METHODS)
    accuracies = {(row["comparison"], row["label"]): row["accuracy"] for row in summary["rows"]}
    assert all(accuracies[f"×{factor:g}", name] == accuracies[f"×{factor:g}{scaling.AGAINST}", name] for name in METHODS)
    assert all(abs(math.log(cost / base / factor)) < math.log(1.25) for cost in scaled)


# texts that stick out of their chart, and tables and charts that stick out of the page
CUT_OFF = """() => [
    ...[...document.querySelectorAll('svg text')].filter(text => {
        const inner = text.getBoundingClientRect(), outer = text.closest('svg').getBoundingClientRect();
        return inner.left < outer.left - 1 || inner.right > outer.right + 1 || inner.top < outer.top - 1;
    }),
    ...[...document.querySelectorAll('.scroll, svg, .dots')].filter(
        element => element.getBoundingClientRect().right > document.documentElement.clientWidth),
].map(element => element.textContent.slice(0, 60))"""


@pytest.mark.parametrize(("dark", "width"), [(False, 1100), (True, 390)])
def test_a_page_is_accessible(dark, width, results_of):
    """In a browser a page logs nothing, requests nothing, has no serious violation by axe-core, and nothing on it is cut off, be
    the screen that of a phone."""
    with opened((results_of("separable") / "index.html").resolve(), dark, width) as page:
        assert faults(page) == []
        assert page.evaluate(CUT_OFF) == []
        assert page.evaluate("document.documentElement.scrollWidth") == width


def test_an_error_of_a_process_keeps_its_facts():
    """An error that comes from another process has its problem, its remedy and its exit code."""
    error = copy.copy(WeightsError("a", "b", True))  # made as one from another process is
    assert (type(error), error.problem, error.remedy, error.code) == (WeightsError, "a", "b", 75)
