"""DVC reads its files with the parser of ruamel.yaml.clib, Darkroom params.yaml with that of ruamel.yaml."""

from __future__ import annotations

import pytest
from ruamel.yaml import YAML

from tests.conftest import ROOT

FILES = [
    ROOT / "dvc.yaml",
    ROOT / "params.yaml",
    *sorted((ROOT / "studies").glob("*.yaml")),
    *sorted((ROOT / "recipes").glob("*.yaml")),
]
SCALARS = (
    "yes", "No", "on", "off", "y", "true", "FALSE", "null", "~", "010", "0o10", "0x1F", "1e3", "1e-05", "-.inf", "1_000", "12:30",
    "2001-12-14", "+1", "é 😀", '"\\u00e9\\n"', "a b#c", "https://x:80/y#z", "{a: [b, c]}", "|\n  x\n  y", ">-\n  x\n  y",
)  # fmt: skip


@pytest.mark.parametrize("text", [*(file.read_text(encoding="utf-8") for file in FILES), *(f"key: {text}\n" for text in SCALARS)])
def test_both_parsers_of_yaml_read_the_same_values(text):
    """What DVC reads from a file is what Darkroom reads from it, so that no run has other params than `darkroom check` has seen."""
    pytest.importorskip("_ruamel_yaml")
    assert repr(YAML(typ="safe").load(text)) == repr(YAML(typ="safe", pure=True).load(text))
