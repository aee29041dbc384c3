"""Which runs are trained, which results are read from the cache, and that processes change nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from darkroom.studies import runner
from darkroom.studies.run_config import RunResult
from tests.studies.test_trainer import CNN, MLP, SCHEMES


@pytest.mark.slow
def test_a_stopped_study_continues_where_it_was(sample, tmp_path):
    """After a stop finished runs are not trained again, and the results are those without a stop."""
    configs = [replace(CNN, seed=seed) for seed in range(3)]
    uninterrupted = runner.run(configs, {"": sample}, accelerator="cpu", folder=tmp_path / "whole")
    done: list[RunResult] = []

    def stop(result: RunResult) -> None:
        done.append(result)
        if len(done) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runner.run(configs, {"": sample}, accelerator="cpu", folder=tmp_path / "parts", on_result=stop)
    rest: list[RunResult] = []
    parts = runner.run(configs, {"": sample}, accelerator="cpu", folder=tmp_path / "parts", on_result=rest.append)
    assert [result.config.seed for result in rest] == [2]
    assert [(r.config, r.curve, r.layers) for r in parts] == [(r.config, r.curve, r.layers) for r in uninterrupted]


def test_a_cached_result_is_checked(sample, tmp_path):
    """A damaged file is trained again; other images or settings have another file."""
    done: list[RunResult] = []

    def run(config=MLP, images=sample) -> int:
        runner.run([config], {"": images}, accelerator="cpu", folder=tmp_path, on_result=done.append)
        return len(done)

    assert run() == 1
    (file,) = tmp_path.glob("*.jsonl")
    file.write_text(file.read_text().replace("0.", "1.", 1))
    assert run() == 2
    assert run(images=replace(sample, digest="other")) == 3
    assert run(replace(MLP, lr=0.1)) == 4
    assert run() == 4


@pytest.mark.slow
def test_processes_change_nothing(sample, tmp_path):
    """Two processes give the figures that one gives."""
    configs = [replace(CNN, seed=seed, steps=3) for seed in range(2)]
    one = runner.run(configs, {"": sample}, accelerator="cpu", folder=tmp_path / "one")
    two = runner.run(configs, {"": sample}, processes=2, accelerator="cpu", folder=tmp_path / "two")
    assert [(r.curve, r.layers) for r in one] == [(r.curve, r.layers) for r in two]


def test_only_perceptrons_are_stacked_on_a_cpu(sample):
    """On a CPU perceptrons of one seed are stacked; networks with batch normalisation never are."""
    configs = [replace(base, label=name, scheme=name) for base in (MLP, CNN) for name in SCHEMES]
    residual = replace(CNN, comparison="r", architecture="resnet8", options={"width": 4}, scheme="")
    configs += [replace(residual, label=str(i)) for i in range(2)]
    assert [len(unit) for unit in runner.group_units(configs, {"": sample}, "cpu")] == [4, 1, 1, 1, 1, 1, 1]


@pytest.mark.slow
def test_the_same_training_runs_once(sample, tmp_path):
    """Runs that differ only in their names are trained once, and each has the result."""
    configs = [replace(CNN, comparison=name, label=label, scheme="") for name, label in (("a", "x"), ("a", "y"), ("b", "z"))]
    configs.append(replace(configs[0], seed=1))
    done: list[RunResult] = []
    for _ in range(2):
        results = runner.run(configs, {"": sample}, accelerator="cpu", folder=tmp_path, on_result=done.append)
        assert [result.config for result in results] == configs
        assert results[0].curve == results[2].curve != results[3].curve
        assert len(done) == 2
