"""Files nested too deeply for Python's JSON reader are damaged files, as any other: none gives a RecursionError."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from darkroom.config import dvc_graph, dvc_repair, stage_code
from darkroom.core import locks, strict_json
from darkroom.core.errors import DarkroomError
from darkroom.lab import backbone_embeddings
from darkroom.labelling import decisions
from darkroom.tracking import pipelines, requests
from pipelines import server
from tests.conftest import ROOT

DEEP = "[" * 100_000
READS_ITSELF = {  # and why each is not to import core.strict_json
    "core/strict_json.py",  # it is the reader
    "inference/exported_classifier.py",  # goes to MLflow with few modules; it names RecursionError itself
    "inference/export.py", "tracking/restore.py",  # of a description that is validated before
    "stage_graph.py",  # a script beside DVC
}  # fmt: skip


def serve(_: Path) -> None:
    assert requests.serve(is_connected=False)
    assert not list(requests.REQUESTS.iterdir())


def close_pipelines(_: Path) -> None:
    assert pipelines.readable() == []
    pipelines.close_ended()


def read_decisions(file: Path) -> None:
    assert decisions.read(file) == []


def read_schedule(_: Path) -> None:
    assert server.read_state() == {}


def describe_holder(file: Path) -> None:
    assert locks._describe(file) == "another run"


def repair(_: Path) -> None:
    assert dvc_repair.is_lock_damaged()


def load_embeddings(file: Path) -> None:
    assert backbone_embeddings.load(file.parent) is None


def read_stage_code(_: Path) -> None:
    with pytest.raises(DarkroomError, match="YAML"):
        stage_code.read()


FILES: list[tuple[str, Callable[[Path], None]]] = [
    (".darkroom/journal/requests/1-a.json", serve),
    (".darkroom/journal/pipelines/x/pipeline.json", close_pipelines),
    ("data/label_decisions.jsonl", read_decisions),
    (".darkroom/schedule.json", read_schedule),
    (".dvc/tmp/darkroom.json", describe_holder),
    ("dvc.lock", repair),
    (f"embedded/{backbone_embeddings.FACTS}", load_embeddings),
    (str(stage_code.FILE), read_stage_code),
]


@pytest.mark.parametrize("deep", [DEEP, "[" * 990 + "]" * 990], ids=["cut", "whole"])
@pytest.mark.parametrize(("name", "read"), FILES, ids=[name for name, _ in FILES])
def test_a_file_nested_too_deeply_is_a_damaged_file(tmp_path, monkeypatch, name, read, deep):
    """Each of Darkroom's own files is then set aside, left out or named, as where it is cut off."""
    monkeypatch.chdir(tmp_path)
    file = Path(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(deep)
    read(file)


def test_a_reader_says_so_as_of_any_damage():
    """JSON and YAML nested too deeply raise what a text that is neither raises."""
    with pytest.raises(ValueError, match="too deeply"):
        strict_json.loads(DEEP)
    with pytest.raises(yaml.YAMLError):
        dvc_graph.load_yaml("[" * 990 + "]" * 990)
    assert strict_json.loads(b'{"a": [1, null]}') == {"a": [1, None]}


def test_one_reader_of_json():
    """No other module calls `json.load` or `json.loads`, so that no file of a kind to come is forgotten."""
    modules = [*(ROOT / "src" / "darkroom").rglob("*.py"), *(ROOT / "pipelines").glob("*.py")]
    roots = (ROOT / "src" / "darkroom", ROOT / "pipelines")
    for module in modules:
        name = next(module.relative_to(root).as_posix() for root in roots if module.is_relative_to(root))
        text = module.read_text(encoding="utf-8").replace("strict_json.loads(", "")
        assert name in READS_ITSELF or ("json.loads(" not in text and "json.load(" not in text), f"{name}: use strict_json.loads"
