"""The weights before training are those of the recorded run, or an error says that they cannot be known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from darkroom.core.errors import ParamsError
from darkroom.inference.classifier import Classifier
from darkroom.lab import initial_network, layers, networks
from darkroom.models.architectures.compact import Compact
from darkroom.models.base import Network
from darkroom.models.checkpoint import Checkpoint, save
from darkroom.models.specs import CompactSpec
from tests.lab.test_layers import PLAIN

SPEC = CompactSpec(32, 4)


def write(folder: str, name: str, seed: int) -> Path:
    """Write a checkpoint whose weights are drawn from a seed."""
    network = Network(Compact(SPEC, seed), PLAIN, 2, seed)
    Path(folder).mkdir(parents=True)
    checkpoint = Checkpoint(name, SPEC, PLAIN, ("ant", "bee"), {}, {})
    save(Path(folder), checkpoint, network.state_dict(), network.parameter_count(), [{"epoch": 1.0}])
    return Path(folder)


def inspect(folder: Path) -> networks.InspectedNetwork:
    return networks.from_classifier(Classifier.load(folder), str(folder), 0, folder)


def first_filter(network: Network) -> torch.Tensor:
    return layers.find_layer(network, "stages.0.0.0").weight


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with a baseline of seed 5, a transferred and a fine-tuned model, and the dvc.lock of their stages."""
    monkeypatch.chdir(tmp_path)
    baseline, transfer = write("models/baseline", "baseline", 90), write("models/transfer/b", "transfer/b", 7)
    finetune = write("models/finetune/b", "finetune/b", 91)
    md5 = {str(folder): initial_network.folder_md5(folder) for folder in (baseline, transfer, finetune)}
    stages = {
        "baseline": {"params": {"params.yaml": {"compute": {"seed": 5}}}, "outs": [baseline]},
        "finetune@b": {"params": {}, "deps": [{"path": str(transfer), "md5": md5[str(transfer)]}], "outs": [finetune]},
    }
    for stage in stages.values():
        stage["outs"] = [{"path": str(out), "md5": md5[str(out)]} for out in stage["outs"]]
    Path("dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))
    return tmp_path


def test_a_baseline_begins_with_the_seed_of_its_run(project):
    """The weights are drawn from the seed in dvc.lock, whatever the seed of params.yaml is now; those of a copy too."""
    start = initial_network.initial_network(inspect(Path("models/baseline")))
    assert torch.equal(first_filter(start.network), first_filter(Network(Compact(SPEC, 5), PLAIN, 2, 5)))
    assert "seed 5" in start.description
    Path("models/baseline").rename("copy")
    assert "seed 5" in initial_network.initial_network(inspect(Path("copy"))).description


def test_a_fine_tuned_model_begins_with_pretrained_weights(project):
    """It begins as the transferred model that its stage read, whose own backbone never changes."""
    start = initial_network.initial_network(inspect(Path("models/finetune/b")))
    assert torch.equal(first_filter(start.network), first_filter(Network(Compact(SPEC, 7), PLAIN, 2, 7)))
    transferred = inspect(Path("models/transfer/b"))
    assert initial_network.initial_network(transferred).network is transferred.network


@pytest.mark.parametrize("change", ["another", "no lock", "start"])
def test_what_is_not_recorded_is_refused(project, change):
    """A model that dvc.lock does not describe, or whose start has changed, is one sentence with a remedy; a seed that a
    person gives is taken."""
    if change == "no lock":
        Path("dvc.lock").unlink()
    elif change == "another":
        (Path("models/baseline") / "history.csv").write_text("epoch\n2\n")
    else:
        (Path("models/transfer/b") / "history.csv").write_text("epoch\n2\n")
    name = "finetune/b" if change == "start" else "baseline"
    inspected = inspect(Path("models", name))
    with pytest.raises(ParamsError, match="began"):
        initial_network.initial_network(inspected)
    if name == "baseline":
        seeded = initial_network.initial_network(replace(inspected, seed=8, is_seed_given=True))
        assert torch.equal(first_filter(seeded.network), first_filter(Network(Compact(SPEC, 8), PLAIN, 2, 8)))
