"""A file that a person names is a regular file: a pipe is refused with a sentence and never waited for."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from darkroom import cli
from darkroom.config import params
from darkroom.core import json_files, user_paths
from darkroom.core.errors import DarkroomError
from darkroom.data import frozen_splits, label_fixes, label_suggestions
from darkroom.inference.classifier import Classifier
from darkroom.labelling import decisions, inbox, label_studio
from darkroom.models import weight_files, weights

READERS: dict[str, Callable[[Path], object]] = {
    "export.json": label_studio.read,
    "label_decisions.jsonl": decisions.read,
    "label_fixes.csv": label_fixes.read,
    "splits.csv": frozen_splits.read,
    "label_issues.csv": label_suggestions.read,
    inbox.TABLE: lambda path: inbox.read(path.parent),
    "params.yaml": params.read_yaml,
    "any.json": lambda path: json_files.load(path, ""),
    "a.pth": weights.read,
    "b.pth": weight_files.checked_sha256,
    "model.json": lambda path: Classifier.load(path.parent),
    "model.safetensors": lambda path: Classifier.load(path.parent),
}


@pytest.fixture(autouse=True)
def _seconds() -> Iterator[None]:
    """End a test that waits for a pipe."""

    def end(*_: object) -> None:
        raise AssertionError("it waits")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("name", READERS)
def test_a_pipe_is_no_file(tmp_path, name):
    """Each reader of a named file says that it is a pipe, and what to do; it does not wait for somebody who writes."""
    os.mkfifo(tmp_path / name)
    with pytest.raises(DarkroomError, match="is a pipe") as caught:
        READERS[name](tmp_path / name)
    assert caught.value.code == 2
    assert "file" in caught.value.remedy


def test_commands_refuse_a_pipe(tmp_path, monkeypatch, capsys, own_mlflow):
    """`monitor` does not take a pipe for a folder without new images."""
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    assert cli.main(["monitor", "pipe"]) == 2
    assert "is a pipe" in capsys.readouterr().err


def test_what_is_not_there_is_left_to_its_reader(tmp_path):
    """A missing file and a folder have messages of their own."""
    user_paths.check_file(tmp_path / "missing")
    user_paths.check_file(tmp_path)
