"""The search for settings: what it proposes, what it may see, what it costs, and how it goes on after a stop."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from darkroom.commands.study import main
from darkroom.core.errors import ParamsError
from darkroom.studies import trainer, tune
from darkroom.studies.run_config import RunConfig
from darkroom.studies.runner import Place
from darkroom.studies.search import INNER, RANDOM, TPE, Search, Trial, best, importances, inner
from tests.studies.test_studies import OWN, TINY, one_process, run  # noqa: F401  (holds here too)

SPACE = {"lr": {"low": 0.0001, "high": 1.0, "log": True}, "optimizer": {"choices": ["adamw", "sgd"]}}
START = {"lr": 0.01, "optimizer": "adamw"}
BASE = RunConfig("search", "trial", 0, "mlp", {"hidden": [8]}, steps=12, batch_size=16, eval_points=4, on=INNER)
SEARCH = Search(SPACE, START, TPE, 0, "median", 14, 4)


def network(values):
    return replace(BASE, **values)


def place(sample, folder):
    return Place({INNER: inner(sample, 0.25)}, "cpu", folder)


def facts(trials):
    return [(t.number, t.values, t.pruned, t.outcome.curve) for t in trials]


def searched(search, sample, folder, on_trial=lambda trial, is_new: None):
    return search.trials(network, place(sample, folder), None, on_trial)


@pytest.mark.parametrize("pruner", ["median", "hyperband", "none"])
def test_a_stopped_search_goes_on_where_it_was(pruner, sample, tmp_path):
    """After a stop the same trials are proposed, those made before are not trained again, and all end as in one go."""
    search = replace(SEARCH, pruner=pruner)
    whole = searched(search, sample, tmp_path / "whole")
    made: list[bool] = []

    def stop(trial: Trial, is_new: bool) -> None:
        made.append(is_new)
        if len(made) == 12:  # two trials after TPE's first proposal of its own
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        searched(search, sample, tmp_path / "parts", stop)
    rest: list[bool] = []
    parts = searched(search, sample, tmp_path / "parts", lambda trial, is_new: rest.append(is_new))
    assert facts(parts) == facts(whole)
    assert rest == [False] * 12 + [True] * (len(whole) - 12)
    more = searched(replace(search, budget=15), sample, tmp_path / "parts")
    assert facts(more)[: len(whole)] == facts(whole)


def test_what_pruning_saves_goes_to_further_trials(sample, tmp_path):
    """A search ends with the trial that spends its budget: pruned ones cost their share, and leave room for more of them."""
    trials = searched(SEARCH, sample, tmp_path)
    spent = [trial.share for trial in trials]
    assert sum(spent[:-1]) < SEARCH.budget <= round(sum(spent), 6) < SEARCH.budget + 1
    assert any(trial.pruned for trial in trials)
    assert len(trials) > SEARCH.budget
    assert all(trial.share in (0.25, 0.5, 0.75, 1) for trial in trials)
    plain = searched(replace(SEARCH, pruner="none"), sample, tmp_path)
    assert [trial.share for trial in plain] == [1] * SEARCH.budget
    assert not best(trials).pruned
    assert best(trials).loss == min(trial.loss for trial in trials if not trial.pruned)


def test_searches_begin_alike_and_part(sample, tmp_path):
    """Every search tries the settings as they are first; random and TPE share nine further trials, and differ from then on."""
    one, other = (searched(replace(SEARCH, sampler=name), sample, tmp_path) for name in (TPE, RANDOM))
    assert one[0].values == other[0].values == START
    assert facts(one)[:10] == facts(other)[:10]
    assert one[10].values != other[10].values
    assert searched(replace(SEARCH, seed=1), sample, tmp_path)[1].values != one[1].values


def test_a_search_sees_training_images_alone(sample, tmp_path):
    """Held-out images change nothing of a search: trials are judged by training images that they were not trained on."""
    other = replace(sample, val_images=255 - sample.val_images, val_labels=sample.val_labels[::-1].copy())
    one, same = (facts(searched(SEARCH, found, tmp_path / str(i))) for i, found in enumerate((sample, other)))
    assert one == same
    split = inner(sample, 0.25)
    assert (len(split.train_labels), len(split.val_labels)) == (72, 24)
    assert np.array_equal(np.concatenate([split.train_images, split.val_images]), sample.train_images)
    assert np.array_equal(np.concatenate([split.train_labels, split.val_labels]), sample.train_labels)
    assert split.digest not in (sample.digest, inner(sample, 0.5).digest)


def test_a_training_ends_where_it_is_told_to(sample):
    """A member that is stopped after a look is what it was at that look, had it gone on."""
    (whole,) = trainer.train([BASE], sample, "cpu")
    (part,) = trainer.train([BASE], sample, "cpu", stop=lambda row: row["step"] >= 6)
    assert [row["step"] for row in part.curve] == [0, 3, 6]
    assert part.curve == whole.curve[:3]


def test_a_head_on_embeddings_is_the_head_on_the_network(sample):
    """Where nothing below the head is trained, embeddings computed once give the curve of the network run in every step."""
    through = replace(BASE, architecture="compact", options={"width": 4}, blocks=0, lr=1.0)
    (slow,) = trainer.train([through], sample, "cpu")
    (fast,) = trainer.train([replace(through, embedded=True)], sample, "cpu")
    for one, other in zip(slow.curve, fast.curve, strict=True):
        assert one == pytest.approx(other, abs=1e-4)
    assert slow.curve[-1]["train_loss"] < slow.curve[0]["train_loss"] - 0.01
    assert (slow.parameters, slow.multiply_adds) == (fast.parameters, fast.multiply_adds)


def test_the_setting_that_decides_is_found():
    """Where the loss depends on one setting alone, that one is most of what decides."""
    from darkroom.studies.run_config import RunResult

    rng = np.random.default_rng(0)
    trials = []
    for i in range(60):
        values = {"lr": float(10 ** rng.uniform(-4, 0)), "optimizer": str(rng.choice(["adamw", "sgd"]))}
        row = {"step": BASE.steps, "val_loss": abs(np.log10(values["lr"]) + 2), "val_accuracy": 0.5}
        trials.append(Trial(RANDOM, 0, i, values, RunResult(BASE, [row], [], 1, 1, 0.0)))
    found = importances(trials, SPACE, START)
    assert next(iter(found)) == "lr"
    assert found["lr"] > 0.9
    assert sum(found.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ("{lrr: {low: 0.1, high: 1.0, log: true}}", '"lrr" cannot be searched (did you mean "lr"?)'),
        ("{options.with: {choices: [4, 8]}}", 'did you mean "options.width"'),
        ("{lr: {low: 0.0, high: 1.0, log: true}}", "above 0 where log is true"),
        ("{lr: {low: -1.0, high: 1.0, log: false}}", "lr cannot be -1.0"),
        ("{lr: {low: 0.1, high: 1.0, log: true}}", "lr is 0.003 without a search"),
        ("{lr: {low: 0.001, high: 1.0}}", "lr takes {choices: […]}, or {low, high, log}"),
        ("{optimizer: {choices: [adamw, sdg]}}", "optimizer cannot be 'sdg'"),
        ("{optimizer: {choices: [adamw]}}", "two choices or more"),
        ("{options.width: {choices: [8, wide]}}", "of the kind of 8"),
        ("{optimizer: {low: 1, high: 2, log: false}}", "if it is a number"),
        ('{scheme: {choices: ["", xavir]}}', 'did you mean "xavier"'),
        ("{}", "at least 1 item"),
    ],
)
def test_a_space_is_checked_before_a_trial(declared, said):
    """A setting that there is not, values that it cannot have, and a space without the section's own value are one message."""
    with pytest.raises(ParamsError) as error:
        main(["tune", "--set", f"space={declared}"])
    assert said in str(error.value)


def test_there_are_steps_to_look_after():
    """Batches so large that there are fewer steps than eval_points are refused before a trial, not in the middle of a search."""
    with pytest.raises(ParamsError, match="fewer steps than eval_points"):
        main(["tune", "--set", "eval_points=20", "space={batch_size: {choices: [64, 1000]}}"])


def test_the_network_below_a_head_is_not_searched():
    """On embeddings the architecture and its first weights are what they are: their options are no part of a space."""
    for name, choices in (("options.width", "[4, 8]"), ("scheme", '["", kaiming]')):
        with pytest.raises(ParamsError, match="cannot be searched"):
            main(["tune", "--set", "on=embeddings", f"space={{{name}: {{choices: {choices}}}}}"])


def test_heads_on_embeddings_are_tuned(workspace):
    """The network below is trained once, on other images; trials and members train a head alone."""
    own = ["on=embeddings", "before=glyphs", "before_images=32", "before_steps=2", "architecture=compact", "options={width: 4}"]
    folder = run("tune", *own)
    rows = list(csv.DictReader((folder / "trials.csv").open()))
    assert {row["sampler"] for row in rows} == {RANDOM, TPE}
    assert len(list((workspace / ".darkroom" / "studies").glob("*.safetensors"))) == 1


def test_a_whole_tuning_repeats_itself_and_is_recorded(monkeypatch, workspace, own_mlflow):
    """Each trial has a run with its number, its state and its values; made again, from scratch or not, files are the same bytes."""
    from darkroom.tracking import records

    journal_folder = workspace / "journal"
    monkeypatch.setattr(records, "RECORDS", journal_folder)
    folder = run("tune", "budget=3")
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    rows = list(csv.DictReader((folder / "trials.csv").open()))
    kept = [[json.loads(line) for line in file.read_text().splitlines()] for file in journal_folder.glob("*/record.jsonl")]
    tags = [{key: value for line in record if line["kind"] == "tags" for key, value in line["values"].items()} for record in kept]
    trials = {(t["darkroom.sampler"], t["darkroom.trial"], t["darkroom.state"]) for t in tags if "darkroom.trial" in t}
    assert trials == {
        (row["sampler"], row["trial"], row["state"]) for row in rows if row["sampler"] == RANDOM
    }  # TPE's are the same
    assert {record[0]["params"]["study.lr"] for record in kept} >= {float(row["lr"]) for row in rows if row["trial"] == "0"}
    run("tune", "budget=3")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first
    assert len(list(journal_folder.glob("*/record.jsonl"))) == len(kept)
    shutil.rmtree(".darkroom/studies")
    run("tune", "budget=3")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first


def test_members_differ_in_what_was_searched():
    """What a search found is trained on all training images, for as many epochs as the settings without it, and alike else."""
    from darkroom.config import study_params
    from darkroom.config.params import read_yaml
    from darkroom.studies.run_config import RunResult

    settings = study_params.parse(read_yaml(Path("studies/params.yaml"))).tune.quick
    row = {"step": 10, "val_loss": 1.0, "val_accuracy": 0.5}
    found = [
        Trial(sampler, seed, 0, {"batch_size": 16, "lr": 0.05}, RunResult(replace(BASE, steps=10), [row], [], 1, 1, 0.0))
        for sampler in (RANDOM, TPE) for seed in range(settings.seeds)
    ]  # fmt: skip
    made = tune.members(settings, 320, found)
    assert [member.label for member in made[:3]] == [tune.DEFAULT, RANDOM, TPE]
    default, other = asdict(made[0]), asdict(made[1])
    assert {key for key in default if default[key] != other[key]} == {"label", "batch_size", "lr", "steps", "warmup"}
    assert {member.steps * member.batch_size for member in made} == {320 * settings.epochs}
    assert {(member.on, member.images) for member in made} == {("", 0)}
