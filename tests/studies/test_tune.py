"""The search of settings: its proposals, its images, its cost, and how it continues after a stop."""

from __future__ import annotations

import csv
from dataclasses import asdict, replace

import numpy as np
import pytest

from darkroom import cli
from darkroom.studies import tune
from darkroom.studies.cache import ResultCache
from darkroom.studies.run_config import CurvePoint, RunConfig, RunResult
from darkroom.studies.samples import INNER, split_inner
from darkroom.studies.search import RANDOM, TPE, Search, Trial, best_trial, importances
from darkroom.studies.tune import TuneStudy
from tests.studies.conftest import run_study, studies_params

SPACE = {"lr": {"low": 0.0001, "high": 1.0, "log": True}, "optimizer": {"choices": ["adamw", "sgd"]}}
DEFAULTS = {"lr": 0.01, "optimizer": "adamw"}
BASE = RunConfig("search", "trial", 0, "mlp", {"hidden": [8]}, steps=12, batch_size=16, eval_points=4, sample=INNER)
SEARCH = Search(SPACE, DEFAULTS, TPE, 0, "median", 14, 4)


def trial_facts(trials):
    return [(t.number, t.values, t.is_pruned, t.result.curve) for t in trials]


def run_search(search, sample, folder, on_trial=lambda trial, is_new: None):
    results = ResultCache({INNER: split_inner(sample, 0.25)}, "cpu", folder)
    return search.run(lambda values: replace(BASE, **values), results, None, on_trial)


def end(seed: int, number: int, values, loss: float, sampler: str = RANDOM) -> Trial:
    """Return a trial that was trained to its end."""
    curve = [CurvePoint(BASE.steps, None, 0.5, loss, 0.5)]
    return Trial(sampler, seed, number, values, RunResult(BASE, curve, [], 1, 1, 0.0))


@pytest.mark.slow
@pytest.mark.parametrize("pruner", ["median", "hyperband", "none"])
def test_a_stopped_search_continues_where_it_was(pruner, sample, tmp_path):
    """After a stop the same trials are proposed, and finished ones are not trained again."""
    search = replace(SEARCH, pruner=pruner)
    uninterrupted = run_search(search, sample, tmp_path / "whole")
    new: list[bool] = []

    def stop(trial: Trial, is_new: bool) -> None:
        new.append(is_new)
        if len(new) == 12:  # two trials after TPE's first proposal of its own
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_search(search, sample, tmp_path / "parts", stop)
    rest: list[bool] = []
    parts = run_search(search, sample, tmp_path / "parts", lambda trial, is_new: rest.append(is_new))
    assert trial_facts(parts) == trial_facts(uninterrupted)
    assert rest == [False] * 12 + [True] * (len(uninterrupted) - 12)
    more = run_search(replace(search, budget=15), sample, tmp_path / "parts")
    assert trial_facts(more)[: len(uninterrupted)] == trial_facts(uninterrupted)


@pytest.mark.slow
def test_what_pruning_saves_is_spent_on_further_trials(sample, tmp_path):
    """A search ends with the trial that spends its budget; pruned trials cost their share."""
    trials = run_search(SEARCH, sample, tmp_path)
    costs = [trial.cost for trial in trials]
    assert sum(costs[:-1]) < SEARCH.budget <= round(sum(costs), 6) < SEARCH.budget + 1
    assert all(cost in (0.25, 0.5, 0.75, 1) for cost in costs)
    assert (len(trials) > SEARCH.budget) == any(trial.is_pruned for trial in trials)
    plain = run_search(replace(SEARCH, pruner="none"), sample, tmp_path)
    assert [trial.cost for trial in plain] == [1] * SEARCH.budget
    assert not best_trial(trials).is_pruned
    assert best_trial(trials).loss == min(trial.loss for trial in trials if not trial.is_pruned)


@pytest.mark.slow
def test_searches_begin_alike_and_part(sample, tmp_path):
    """Every search tries the defaults first; random and TPE share nine further trials, then differ."""
    first, second = (run_search(replace(SEARCH, sampler=name), sample, tmp_path) for name in (TPE, RANDOM))
    assert first[0].values == second[0].values == DEFAULTS
    assert trial_facts(first)[:10] == trial_facts(second)[:10]
    assert first[10].values != second[10].values
    assert run_search(replace(SEARCH, seed=1), sample, tmp_path)[1].values != first[1].values


@pytest.mark.slow
def test_a_search_does_not_use_held_out_images(sample, tmp_path):
    """Other held-out images change nothing in a search."""
    other = replace(sample, val_images=255 - sample.val_images, val_labels=sample.val_labels[::-1].copy())
    first, second = (trial_facts(run_search(SEARCH, s, tmp_path / str(i))) for i, s in enumerate((sample, other)))
    assert first == second


def test_the_setting_that_decides_is_the_most_important():
    """Where the loss depends on one setting only, that one has most of the importance."""
    rng = np.random.default_rng(0)
    trials = []
    for i in range(60):
        values = {"lr": float(10 ** rng.uniform(-4, 0)), "optimizer": str(rng.choice(["adamw", "sgd"]))}
        trials.append(end(0, i, values, abs(np.log10(values["lr"]) + 2)))
    shares = importances(trials, SPACE, DEFAULTS)
    assert next(iter(shares)) == "lr"
    assert shares["lr"] > 0.9
    assert sum(shares.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("declared", "facts"),
    [
        ("{lrr: {low: 0.1, high: 1.0, log: true}}", ['"lrr"', '"lr"']),
        ("{options.with: {choices: [4, 8]}}", ['"options.width"']),
        ("{lr: {low: 0.0, high: 1.0, log: true}}", ["lr takes", "above 0"]),
        ("{lr: {low: -1.0, high: 1.0, log: false}}", ["lr cannot be -1.0"]),
        ("{lr: {low: 0.1, high: 1.0, log: true}}", ["lr is 0.003"]),
        ("{lr: {low: 0.001, high: 1.0}}", ["lr takes {choices: […]}, or {low, high, log}"]),
        ("{optimizer: {choices: [adamw, sdg]}}", ["optimizer cannot be 'sdg'"]),
        ("{optimizer: {choices: [adamw]}}", ["optimizer takes two"]),
        ("{options.width: {choices: [8, wide]}}", ["options.width takes", "kind of 8"]),
        ("{optimizer: {low: 1, high: 2, log: false}}", ["optimizer takes {choices: […]}"]),
        ('{scheme: {choices: ["", xavir]}}', ['"xavier"']),
        ("{}", ["space", "at least 1 item"]),
    ],
)
def test_a_space_is_checked_before_a_trial(declared, facts, workspace, capsys):
    """Unknown settings, values that they cannot have, and a space without the default are one message."""
    assert cli.main(["study", "tune", "--set", f"space={declared}"]) == 2
    message = capsys.readouterr().err
    assert all(fact in message for fact in facts), message


@pytest.mark.slow
def test_batches_with_too_few_steps_are_refused(workspace, capsys):
    """A space with batches that have fewer steps than evaluations is refused before a trial."""
    settings = ["eval_points=20", "space={batch_size: {choices: [64, 1000]}}"]
    assert cli.main(["study", "tune", "--set", *settings]) == 2
    assert "eval_points" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "choices"), [("options.width", "[4, 8]"), ("scheme", '["", kaiming]')])
def test_the_network_below_a_head_is_not_searched(name, choices, workspace, capsys):
    """On embeddings the architecture and its initial weights are fixed: their options are no part of a space."""
    assert cli.main(["study", "tune", "--set", "tuned=embeddings", f"space={{{name}: {{choices: {choices}}}}}"]) == 2
    assert f'"{name}"' in capsys.readouterr().err


@pytest.mark.slow
def test_heads_on_embeddings_are_tuned(workspace):
    """The network below is pretrained once, on other images; trials and runs train only a head."""
    network = ["architecture=compact", "options={width: 4}"]
    folder = run_study("tune", "tuned=embeddings", "pretrain_on=glyphs", "pretrain_images=32", "pretrain_steps=2", *network)
    rows = list(csv.DictReader((folder / "trials.csv").open()))
    assert {row["sampler"] for row in rows} == {RANDOM, TPE}
    assert len(list((workspace / ".darkroom" / "studies").glob("*.safetensors"))) == 1


def test_runs_differ_in_what_was_searched():
    """The best settings are trained for the epochs of the defaults, and differ in nothing else."""
    settings = studies_params().tune.quick
    trials = [end(seed, 0, {"batch_size": 16, "lr": 0.05}, 1.0, name) for name in (RANDOM, TPE) for seed in range(settings.seeds)]
    runs = TuneStudy(settings, trials).runs(320)
    assert [run.label for run in runs[:3]] == [tune.DEFAULT, RANDOM, TPE]
    default, other = asdict(runs[0]), asdict(runs[1])
    assert {key for key in default if default[key] != other[key]} == {"label", "batch_size", "lr", "steps", "warmup"}
    assert {run.steps * run.batch_size for run in runs} == {320 * settings.epochs}
    assert {(run.sample, run.images) for run in runs} == {("", 0)}
