"""`darkroom study`: mistakes, help, completion, and the folders that it may replace."""

from __future__ import annotations

import json

import pytest

from darkroom import cli
from darkroom.commands import study_run
from darkroom.studies import registry
from tests.completion import completions
from tests.studies.conftest import SETTINGS, TINY, studies_params


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["intialization"], ['"initialization"']),
        (["depth", "--set", "epochz=1"], ["depth.quick.epochz", '"epochs"']),
        (["depth", "--set", "seeds=2"], ["depth.quick.seeds"]),
        (["initialization", "--set", *TINY, "schemes=[kaiming,xavir]"], ["xavir", '"xavier"']),
        (["depth", "--set", "seeds"], ["KEY=VALUE"]),
        (["depth", "--set", "depths=[8,"], ["depths", "YAML"]),
        ([], ["--list"]),
        (["depth", "--set", "data=digts"], ["digts", '"digits"']),
        (["transfer", "--set", *TINY, *SETTINGS["transfer"], "sources=[rotatons]"], ["rotatons", '"rotations"']),
        (["transfer", "--set", "sources=[random]"], ["random", "sources"]),
        (["transfer", "--set", *TINY, *SETTINGS["transfer"], "sources=[inner]"], ['"inner"']),
        (["transfer", "--set", *TINY, *SETTINGS["transfer"], "blocks=[8]"], ["8 blocks", "`blocks`"]),
        (["optimizer", "--set", "optimizers=[sgd,sgd]"], ["optimizers", "twice"]),
        (["practice", "--set", "tta_modes=[plain,plain]"], ["tta_modes", "twice"]),
        (["scaling", "--set", "options={width: wide}"], ["width", "wide"]),
        (["scaling", "--set", "base_size=64"], ["scaling.quick", "base_size", "image_size"]),
        (["augmentation", "--set", *TINY, "architecture=nope"], ['"nope"']),
        (["augmentation", "--set", *TINY, "options={width: -3}"], ["-3", "darkroom models describe"]),
        (["augmentation", "--set", "views=[-1,1]"], ["views", "--set"]),
        (["depth", "--out", "."], ["name a new folder"]),
        (["depth", "--out", "a", "--cost", "a/b"], ["--out a", "--cost a/b"]),
    ],
)
def test_a_mistake_names_its_remedy(arguments, facts, workspace, capsys):
    """A mistake is one message with the nearest name and a remedy; the command exits with 2."""
    assert cli.main(["study", *arguments]) == 2
    message = capsys.readouterr().err
    assert all(fact in message for fact in facts), message
    assert "remedy:" in message


@pytest.mark.parametrize(
    ("options", "out", "cost"),
    [
        ([], "studies/results/depth", "studies/results/cost/depth"),
        (["--out", "studies/results/mine"], "studies/results/mine", "studies/results/cost/mine"),
        (["--out", "a", "--cost", "b"], "a", "b"),
    ],
)
def test_the_times_of_another_folder_replace_none(options, out, cost, monkeypatch):
    """A run that is written elsewhere leaves the times of the study's own folder as they are."""
    folders = []
    monkeypatch.setattr(study_run, "run_study", lambda name, size, items, *rest: folders.extend(rest[:2]) or ("", []))
    assert cli.main(["study", "depth", *options]) == 0
    assert [folder.as_posix() for folder in folders] == [out, cost]


def test_the_list_names_every_study(capsys):
    """`--list` has a line for each study, as a table or as JSON, and the shell completes their names."""
    assert completions("study", "de") == ["depth"]
    cli.main(["study", "--list"])
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[2:]] == list(registry.NAMES)
    cli.main(["study", "--list", "--json"])
    assert [item["name"] for item in json.loads(capsys.readouterr().out)] == list(registry.NAMES)


@pytest.mark.parametrize("name", registry.NAMES)
def test_help_lists_the_settings(name, workspace, capsys):
    """The help of a study has each setting with its value, and the shell completes the settings."""
    assert cli.main(["study", name, "--help"]) == 0
    text = capsys.readouterr().out
    keys = completions("study", name, "--set", "")
    assert {"data=", "seeds=", "eval_points="} <= set(keys)
    assert all(key in text for key in keys)
    assert f"data={getattr(studies_params(), name).quick.data}" in text


def test_earlier_names_of_keys_are_read(workspace, capsys):
    """Keys of an earlier version of studies/params.yaml, in the file or after --set, have the same effect."""
    file = workspace / "studies" / "params.yaml"
    file.write_text(file.read_text().replace("    eval_points:", "    looks:"))
    assert cli.main(["study", "depth", "--set", "looks=0"]) == 2
    assert "depth.quick.eval_points" in capsys.readouterr().err


def test_a_project_without_params_of_studies_has_those_of_darkroom(workspace, capsys):
    """Where there is no studies/params.yaml, the values that come with Darkroom count, with those of --set."""
    (workspace / "studies" / "params.yaml").unlink()
    assert cli.main(["study", "depth", "--set", "epoch=1"]) == 2
    assert 'unknown key "depth.quick.epoch"' in capsys.readouterr().err


def test_a_folder_that_is_no_study_is_not_replaced(workspace, capsys):
    """A study refuses to replace a folder that holds other files."""
    (workspace / "thesis").mkdir()
    (workspace / "thesis" / "thesis.txt").write_text("years")
    assert cli.main(["study", "separable", "--out", "thesis", "--set", *TINY, *SETTINGS["separable"]]) == 2
    assert "thesis" in capsys.readouterr().err
    assert (workspace / "thesis" / "thesis.txt").exists()
