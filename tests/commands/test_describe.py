"""`darkroom models describe`: an account of any architecture by name."""

from __future__ import annotations

import json

import pytest

from darkroom import cli
from darkroom.commands import completion, describe
from darkroom.models.architectures import registry
from tests.conftest import ROOT


def told(capsys, *arguments: str) -> str:
    assert cli.main(["models", "describe", *arguments]) == 0
    return capsys.readouterr().out


def test_the_table_adds_up(capsys):
    """LeNet-5 has 61,706 parameters, layer by layer those of its paper, and the last line is their sum."""
    lines = told(capsys, "lenet5").splitlines()
    assert [line.split()[0] for line in lines[4:]] == ["c1", "s2", "c3", "s4", "c5", "flatten", "f6", "head", "all"]
    assert "61,706" in lines[-1]
    assert "100.0%" in lines[-1]


def test_json_has_the_same(capsys):
    """JSON gives the layers with numbers, for the size, channels, classes and options that were asked for."""
    asked = ("mobilenet_v1", "--size", "32", "--channels", "1", "--classes", "7", "--set", "width=0.25", "--json")
    found = json.loads(told(capsys, *asked))
    assert (found["size"], found["channels"], found["classes"], found["options"]) == (32, 1, 7, {"width": 0.25})
    assert found["layers"][-1] == {"name": "head", "kind": "Linear", "output": [7], "parameters": 257 * 7, "multiply_adds": 256 * 7}
    assert found["parameters"] == sum(layer["parameters"] for layer in found["layers"])


@pytest.mark.parametrize("name", ["compact", "autoencoder_linear", "squeezenet1_1", "torchvision/resnet18"])
def test_every_kind_can_be_described(capsys, name):
    """Darkroom's own network, autoencoders and torchvision's networks have an account too."""
    assert told(capsys, name, "--size", "32").partition("\n")[0].partition(" ")[0].endswith(name)


def test_ours_comes_first(capsys):
    """A name that torchvision has too is ours; with `torchvision/` it is theirs, and both have the same parameters."""
    ours, theirs = (json.loads(told(capsys, name, "--json")) for name in ("resnet18", "torchvision/resnet18"))
    assert (ours["paper"], "paper" in theirs) == ("He et al. 2016", False)
    assert (ours["parameters"], ours["multiply_adds"]) == (theirs["parameters"], theirs["multiply_adds"])


def test_the_list_names_all(capsys):
    """`--list` has every classic architecture and every torchvision classifier."""
    text = told(capsys, "--list")
    assert all(f"\n{name} " in text for name in registry.entries())
    assert "vit_b_16" in text


def test_the_page_has_their_figures():
    """docs/architectures.md has a row for every classic architecture, with the figures that `describe` gives."""
    page = (ROOT / "docs" / "architectures.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| `")]
    table = {cells[0].strip("`"): cells for cells in rows if len(cells) == 6}
    assert set(table) == set(registry.entries())
    for name, (_, paper, _, parameters, products, options) in table.items():
        chosen = describe._choose(name, None, None, None, {})
        found = describe._rows(chosen)
        assert paper == chosen.entry.paper
        assert int(parameters.replace(",", "")) == sum(row["parameters"] for row in found)
        number, unit = (*products.replace(",", "").split(), "")[:2]
        assert float(number) * {"": 1, "M": 1e6, "G": 1e9}[unit] == pytest.approx(
            sum(row["multiply_adds"] for row in found), rel=0.01
        )
        assert options == ", ".join(f"`{key}={value!r}`" for key, value in chosen.entry.options.items())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["lenet"], 'did you mean "lenet5"'),
        ([], "describe what"),
        (["resnet20", "--set", "width"], "OPTION=VALUE"),
        (["resnet20", "--set", "deep=3"], "no option"),
        (["compact", "--set", "deep=3"], "no option"),
        (["torchvision/resnet18", "--channels", "1"], "3 channels"),
        (["torchvision/alexnet", "--size", "8"], "8 pixels"),
        (["vit_b_32", "--size", "33"], "33 pixels"),
        (["resnet20", "--size", "0"], "from 1 on"),
    ],
)
def test_mistakes_have_a_remedy(capsys, arguments, said):
    """What cannot be described is one message with a remedy, exit code 2."""
    assert cli.main(["models", "describe", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "remedy:" in error


def test_names_are_completed():
    """The tab key completes `describe`, and then the names of architectures."""
    assert completion.candidates(["models", "d"]) == ["describe"]
    assert completion.candidates(["models", "describe", "resnet2"]) == ["resnet20"]
    assert "torchvision/vgg16" in completion.candidates(["models", "describe", "torchvision/v"])
