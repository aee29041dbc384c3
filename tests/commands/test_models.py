"""`darkroom models`: the registered versions, and the layers of any architecture by name."""

from __future__ import annotations

import json

import pytest
from torch import nn

from darkroom import cli
from darkroom.models import macs, network_summary
from darkroom.models.architectures import registry
from darkroom.models.checkpoint import Checkpoint, save
from darkroom.tracking import registry as versions
from darkroom.tracking.entities import Promotion, Version
from tests.completion import completions
from tests.conftest import ROOT
from tests.lab.test_layers import PLAIN, compact


def describe(capsys, *arguments: str) -> str:
    """Return the output of `darkroom models describe`."""
    assert cli.main(["models", "describe", *arguments]) == 0
    return capsys.readouterr().out


@pytest.mark.slow
def test_the_table_adds_up(capsys):
    """LeNet-5 has 61,706 parameters, layer by layer those of its paper, and the last line is their sum."""
    lines = describe(capsys, "lenet5").splitlines()
    assert [line.split()[0] for line in lines[5:]] == ["c1", "s2", "c3", "s4", "c5", "flatten", "f6", "head", "all"]
    assert "61,706" in lines[-1]
    assert "100.0%" in lines[-1]


def test_json_has_the_same(capsys):
    """JSON gives the layers with numbers, for the requested size, channels, classes and options."""
    options = ("mobilenet_v1", "--size", "32", "--channels", "1", "--classes", "7", "--set", "width=0.25", "--json")
    summary = json.loads(describe(capsys, *options))
    assert (summary["size"], summary["channels"], summary["classes"], summary["options"]) == (32, 1, 7, {"width": 0.25})
    head = {"name": "head", "kind": "Linear", "output": [7], "parameters": 257 * 7, "multiply_adds": 256 * 7, "inputs": ["pool"]}
    assert head.items() <= summary["layers"][-1].items()
    assert summary["layers"][0]["kernel"] == [3, 3]
    assert summary["parameters"] == sum(layer["parameters"] for layer in summary["layers"])


@pytest.mark.parametrize("name", ["compact", "autoencoder_linear", "squeezenet1_1", "torchvision/resnet18"])
def test_every_kind_can_be_described(capsys, name):
    """Darkroom's own network, autoencoders and torchvision's networks can be described too."""
    assert describe(capsys, name, "--size", "32").partition("\n")[0].partition(" ")[0].endswith(name)


def test_a_trained_model_is_described_as_it_is(tmp_path, monkeypatch, capsys):
    """A checkpoint folder has the layers, parameters and multiply-adds of its own network, and options of a name are refused."""
    monkeypatch.chdir(tmp_path)
    network = compact()
    checkpoint = Checkpoint("small", network.features.spec, PLAIN, ("ant", "bee", "fly"), {}, {})
    (tmp_path / "models/small").mkdir(parents=True)
    save(tmp_path / "models/small", checkpoint, network.state_dict(), network.parameter_count(), [{"epoch": 1.0}])
    summary = json.loads(describe(capsys, "models/small", "--json", "--diagram", "small.svg"))
    assert summary["parameters"] == network.parameter_count()
    network_with_head = nn.Sequential(network.features, network.head)
    assert summary["multiply_adds"] == macs.multiply_adds(network_with_head, 32)
    assert (summary["classes"], summary["layers"][-1]["output"]) == (3, [3])
    assert "global average" in (tmp_path / "small.svg").read_text()
    assert cli.main(["models", "describe", "models/small", "--size", "64"]) == 2
    assert "leave --size out" in capsys.readouterr().err
    assert cli.main(["models", "describe", "models/none"]) == 2
    assert "remedy:" in capsys.readouterr().err


def test_ours_comes_first(capsys):
    """A name that is also torchvision's is ours; with `torchvision/` it is theirs, and both have the same parameters."""
    ours, theirs = (json.loads(describe(capsys, name, "--json")) for name in ("resnet18", "torchvision/resnet18"))
    assert (ours["paper"], "paper" in theirs) == ("He et al. 2016", False)
    assert (ours["parameters"], ours["multiply_adds"]) == (theirs["parameters"], theirs["multiply_adds"])


def test_the_list_names_all(capsys):
    """`--list` has every classic architecture and every torchvision classifier, also as JSON."""
    text = describe(capsys, "--list")
    assert all(f"\n{name} " in text for name in registry.entries())
    assert "vit_b_16" in text
    names = {item["name"] for item in json.loads(describe(capsys, "--list", "--json"))}
    assert {"compact", "torchvision/vit_b_16", *registry.entries()} <= names


@pytest.mark.slow
def test_the_page_has_their_figures(shapes_only):
    """docs/architectures.md has a row for every classic architecture, with the figures that `describe` gives."""
    page = (ROOT / "docs" / "architectures.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| `")]
    table = {cells[0].strip("`"): cells for cells in rows if len(cells) == 6}
    assert set(table) == set(registry.entries())
    for name, (_, paper, _, parameters, multiply_adds, options) in table.items():
        entry = registry.entries()[name]
        layers = network_summary.layers(name, entry.size, entry.channels, entry.classes, {})
        assert paper == entry.paper
        assert int(parameters.replace(",", "")) == sum(layer.parameters for layer in layers)
        number, unit = (*multiply_adds.replace(",", "").split(), "")[:2]
        total = sum(layer.multiply_adds for layer in layers)
        assert float(number) * {"": 1, "M": 1e6, "G": 1e9}[unit] == pytest.approx(total, rel=0.01)
        assert options == ", ".join(f"`{key}={value!r}`" for key, value in entry.options.items())


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        (["lenet"], 'did you mean "lenet5"'),
        ([], "--list"),
        (["resnet20", "--set", "width"], "OPTION=VALUE"),
        (["resnet20", "--set", "deep=3"], "deep"),
        (["compact", "--set", "deep=3"], "deep"),
        (["torchvision/resnet18", "--channels", "1"], "3 channels"),
        (["torchvision/alexnet", "--size", "8"], "8 pixels"),
        (["vit_b_32", "--size", "33"], "33 pixels"),
        (["resnet20", "--size", "0"], "'--size': 0"),
    ],
)
def test_mistakes_have_a_remedy(capsys, arguments, fact):
    """What cannot be described is one message with a remedy, exit code 2."""
    assert cli.main(["models", "describe", *arguments]) == 2
    error = capsys.readouterr().err
    assert fact in error
    assert "remedy:" in error


def test_names_are_completed():
    """The tab key completes `describe`, and then the names of architectures."""
    assert completions("models", "d") == ["describe"]
    assert completions("models", "describe", "resnet2") == ["resnet20"]
    assert "torchvision/vgg16" in completions("models", "describe", "torchvision/v")


@pytest.fixture
def registered(monkeypatch):
    """Let MLflow have two versions, of which the second replaced the first as the champion."""
    monkeypatch.chdir(ROOT)
    tags = {"val_accuracy": "0.9800", "test_accuracy": "0.9700", "darkroom.verdict": "passed"}
    listed = [Version("1", "baseline", "a", tags=tags), Version("10", "transfer/vgg16", "b", aliases=["champion"], tags=tags)]
    monkeypatch.setattr(versions, "versions", lambda name: listed)
    monkeypatch.setattr(versions, "ledger", lambda name: [Promotion(0.0, "1", "", "first"), Promotion(9.0, "10", "1", "better")])


@pytest.mark.parametrize("arguments", [["models"], ["models", "list"]])
def test_versions_are_listed_newest_first(registered, arguments, capsys):
    """`darkroom models` and `darkroom models list` show a line for each version, with aliases and accuracy."""
    assert cli.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["10", "1"]
    assert "champion" in lines[2]
    assert "0.9800" in lines[3]


def test_versions_and_champions_as_json(registered, capsys):
    """`--json` has every field of a version, with `--history` of a change of champion."""
    assert cli.main(["models", "--json"]) == 0
    assert [(item["version"], item["sha256"]) for item in json.loads(capsys.readouterr().out)] == [("10", "b"), ("1", "a")]
    assert cli.main(["models", "--history", "--json"]) == 0
    assert [item["why"] for item in json.loads(capsys.readouterr().out)] == ["first", "better"]


def test_the_history_says_who_replaced_whom(registered, capsys):
    """`--history` has a line for each change of champion, with its reason."""
    assert cli.main(["models", "--history"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert all(word in last for word in ("version 10", "transfer/vgg16", "version 1", "better"))
