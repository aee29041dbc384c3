"""What `benchmarks/fuzz.py` has found, a small case of each kind: a damaged file is one sentence with a remedy."""

from __future__ import annotations

import bz2
import io
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import AfterValidator

from darkroom import cli
from darkroom.api import promotion_file
from darkroom.augmentation import storage
from darkroom.config import dvc_graph, params
from darkroom.core import json_files
from darkroom.core.errors import DarkroomError
from darkroom.data import arrays, label_suggestions, manifest, sources
from darkroom.evaluation import cost, cross_validation, leaderboard, metrics_io, predictions
from darkroom.inference.exported_classifier import ExportedClassifier
from darkroom.models import checkpoint, weight_files
from darkroom.monitoring import history, reference
from darkroom.tracking import registry

DEEP = b"[" * 5_000
POLICY = b'{"policy": "liht", "seed": 0, "albumentations": "2.0.8", "pipeline": {}, "views": 2}'
PROGRAM = {"classes": ["a"], "preprocessing": {"image_size": 8, "resize": "crop", "background": [0, 0, 0]}}


def npy(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def parquet(**columns: list) -> bytes:
    content = io.BytesIO()
    pq.write_table(pa.table(columns), content)
    return content.getvalue()


def open_source(path: Path) -> None:
    with sources.open_source(path) as source:
        list(source.files)


def load_split(path: Path) -> None:
    """Load a split of one image, of which this file is the images or the labels."""
    for name, array in (("images.npy", np.zeros((1, 8, 8, 3), np.uint8)), ("labels.npy", np.zeros(1, int))):
        if path.name != name:
            np.save(path.with_name(name), array)
    arrays.load_split(path.parent)


def load_views(path: Path) -> None:
    np.save(path.with_name("labels.npy"), np.zeros(1, int))
    np.save(path.with_name("images.npy"), np.zeros((1, 8, 8, 3), np.uint8))
    storage.load_views(path.parent, 1)


def load_program(path: Path) -> None:
    path.with_name("model.onnx").touch()
    ExportedClassifier(path.parent)


def load_onnx(path: Path) -> None:
    path.with_name("model.json").write_text(json.dumps(PROGRAM))
    ExportedClassifier(path.parent)


def read_metrics(path: Path) -> None:
    metrics_io.read(path, metrics_io.Metrics)


def read_promotion(_: Path) -> None:
    promotion_file.read()


def seconds(path: Path) -> None:
    cost.training_seconds(["baseline"], path.parent)


def read_predictions(path: Path) -> None:
    predictions.read(path, "baseline")


def folds(path: Path) -> None:
    cross_validation.read_predictions(path.parent, ["baseline"], ("a",))


CASES: list[tuple[str, Callable[[Path], object], list[bytes]]] = [
    ("model.onnx", load_onnx, [b"", b"\x08\t\x12\x07", b"\x08\t\x12\x07pytorch"]),
    ("model.json", load_program, [
        b"{", DEEP, b"[]", b"{}", *(json.dumps(PROGRAM | changed).encode() for changed in (
            {"preprocessing": None}, {"classes": 3}, {"classes": []}, {"files": "x"}, {"files": {}}, {"checksum": "x"},
        )),
    ]),
    ("photos.tar.bz2", open_source, [bz2.compress(b"x" * 2000)[:-9] + b"y" * 9]),
    ("dvc.lock", dvc_graph.read_lock, [b"{&@\xfa\xb0", DEEP, b"stages: 3", b"stages: {a: {outs: [{md5: x}]}}"]),
    ("params.yaml", params.read, [b"", b"\xff", b"a: [", b"[" * 1_000]),
    ("manifest.parquet", manifest.read, [b"", b"PAR1", parquet(camera=["x"]), parquet(path=["x"], width=["wide"])]),
    ("promotion.json", read_promotion, [b"", DEEP, b'{"registered": {}}', b'{"registered": 3}', b'{"verdict": []}']),
    ("metrics.json", read_metrics, [DEEP, b"\xff", b'{"schema": 2, "best": NaN}']),
    ("leaderboard.csv", leaderboard.read, [b"\xff\xfem\0", b"model\n\0"]),
    ("baseline.json", seconds, [b"", b"3", b'{"seconds": "x"}']),
    ("predictions.parquet", folds, [b"PAR1", parquet(model=["baseline"])]),
    ("predictions.parquet", read_predictions, [
        b"PAR1", parquet(model=["baseline"]),
        parquet(model=["baseline"] * 2, split=["val"] * 2, pixel_hash=["p"] * 2, label=["a"] * 2, probabilities=[[0.5], []]),
        parquet(model=["baseline"], split=["val"], pixel_hash=["p"], label=["a"], probabilities=["x"]),
    ]),
    ("images.npy", load_split, [b"", b"\x93NUMPY", npy(np.zeros(3)), npy(np.zeros((1, 8, 8, 3), float)), npy(np.array([{}]))]),
    ("labels.npy", load_split, [npy(np.zeros((1, 1), int)), npy(np.zeros(2, int)), npy(np.zeros(1))]),
    ("classes.json", arrays.load_classes, [b"", b"\xf8", b"1", DEEP, b"9" * 5_000, b'["a", 1]']),
    ("policy.json", load_views, [b"{", b"\xff\xfe{", b'"2.0.8"', DEEP, b"{}", POLICY]),
    ("reference.npz", reference.read, [b"P", b"PK\x03\x04", b""]),
    ("history.csv", lambda path: checkpoint.read_history(path.parent), [b"\xff", b"epoch\nx\n", b"a,b\n1,2,3\n"]),
    ("issues.csv", label_suggestions.read, [b"", b"\0", b"path,label\n"]),
    ("vgg16.pth", weight_files.checked_sha256, [b"PK\x05\x06" + b"\xff" * 18]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "read", "content"),
    [(name, read, content) for name, read, contents in CASES for content in contents],
    ids=[f"{name}-{number}" for name, _, contents in CASES for number in range(len(contents))],
)
def test_a_damaged_file_is_refused_with_a_remedy(tmp_path, monkeypatch, name, read, content):
    """Whatever is wrong with a file, its reader raises an error that names it and what to do; nothing else is raised."""
    monkeypatch.setattr(promotion_file, "FILE", tmp_path / "promotion.json")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DarkroomError, match=name.replace(".", r"\.")) as error:
        read(tmp_path / name)
    assert error.value.remedy
    assert len(error.value.problem) < 700


def test_half_a_character_in_a_message_is_refused(tmp_path):
    """Where a validator names a value that has half a character, pydantic fails; the file is damaged all the same."""

    def refuse(text: str) -> str:
        raise ValueError(f"there is no {text}")

    (tmp_path / "a.json").write_text('"\\ud800"')
    with pytest.raises(DarkroomError, match="half a character"):
        json_files.read(tmp_path / "a.json", Annotated[str, AfterValidator(refuse)], "make it again")


def test_a_number_of_thousands_of_digits_names_no_file(tmp_path):
    """A cell of a table that Python cannot read as a number is the path of no image."""
    for name in ("0.png", "1.png"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "labels.csv").write_text(f"file,label\n{'9' * 5000},a\n1,b\n")
    with suppress(DarkroomError):
        open_source(tmp_path)


def test_a_damaged_line_of_the_ledger_is_named():
    """A tag of the registered model that somebody changed is an error with a remedy."""
    assert registry._promotion("birds", "t", '{"time": 1, "version": "2", "previous": "", "why": "w"}').version == "2"
    for text in ("", "[]", '{"time": "x"}'):
        with pytest.raises(DarkroomError, match="the tag t of the registered model birds"):
            registry._promotion("birds", "t", text)


def test_a_damaged_line_of_the_history_is_left_out(tmp_path):
    """A half line, or one of another kind, does not make the others unreadable."""
    (tmp_path / history.FILE).write_bytes(b"\xff\n3\n" + DEEP + b"\n")
    assert history.read(tmp_path) == []


def test_a_damaged_decision_is_a_mistake_of_the_command(tmp_path, monkeypatch, capsys):
    """`darkroom models` does not take a damaged promotion.json for one of a clone: exit code 2, and the remedy is git's."""
    monkeypatch.chdir(tmp_path)
    Path("reports").mkdir()
    Path("reports/promotion.json").write_text('{"registered": {"name": 3}}')
    Path("params.yaml").write_text(Path(__file__).parents[2].joinpath("params.yaml").read_text())
    monkeypatch.setattr(registry, "versions", lambda name: [])
    assert cli.main(["models"]) == 2
    assert "`git checkout reports/promotion.json`" in capsys.readouterr().err
