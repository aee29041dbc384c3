"""What `fuzz.py` damages: each kind of file that Darkroom reads, with valid contents and what reads it.

A target is made once, in an empty folder that is the working directory.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from PIL import Image
from safetensors.torch import load_file, save_file

from darkroom.api import promotion_file
from darkroom.augmentation import storage
from darkroom.augmentation.views import ViewGenerator
from darkroom.config import dvc_graph, params
from darkroom.core import checksums
from darkroom.core.errors import DarkroomError
from darkroom.data import arrays, decoding, frozen_splits, label_fixes, label_suggestions, manifest, sources
from darkroom.evaluation import cross_validation, leaderboard, metrics_io, predictions
from darkroom.inference import export
from darkroom.inference.classifier import Classifier
from darkroom.inference.exported_classifier import ExportedClassifier
from darkroom.inference.predict import Measured, predict_files
from darkroom.models import checkpoint, weight_files, weights
from darkroom.models.backbones.torchvision import TorchvisionBackbone
from darkroom.models.base import Network, Preprocessing
from darkroom.models.factory import build_features
from darkroom.models.specs import ArchitectureSpec, BackboneSpec, CompactSpec, NetworkSpec
from darkroom.monitoring import history, reference
from darkroom.stages.register import Decision
from darkroom.tracking import pyfunc_model, registry, runs, uploader
from darkroom.tracking.entities import Promotion

ROOT = Path(__file__).parents[1]
PREPROCESSING = Preprocessing(32, "crop", (0, 0, 0), (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
Reader = Callable[[bytes], object]


@dataclass(frozen=True)
class Target:
    """Contents of a file, of which the first is valid, what reads a file of that content, and how contents of JSON are written."""

    seeds: list[bytes]
    read: Reader
    dump: Callable[[Any], bytes] | None = None  # None where the content is no JSON


def dump(content: Any) -> bytes:
    return json.dumps(content).encode()


def dump_sealed(content: Any) -> bytes:
    """Return JSON with its checksum where it had one, so that damage is found by what is behind the checksum."""
    if isinstance(content, dict) and checksums.KEY in content:
        content = {key: value for key, value in content.items() if key != checksums.KEY}
        content[checksums.KEY] = checksums.of_content(content)
    return dump(content)


def write_checkpoint(folder: Path, spec: NetworkSpec) -> Path:
    network = Network(build_features(spec), PREPROCESSING, 2)
    described = checkpoint.Checkpoint(
        "baseline", spec, PREPROCESSING, ("ant", "bée"), {"lr": 0.1}, {"epoch": 1.0, "val_loss": 0.5}, 1.5
    )
    folder.mkdir(parents=True)
    checkpoint.save(folder, described, network.state_dict(), 7, [{"epoch": 1.0}])
    return folder


def unsealed(folder: Path) -> Path:
    """Make a checkpoint one of an earlier version, whose damage no checksum tells."""
    content = json.loads((folder / "model.json").read_bytes())
    del content[checksums.KEY]
    (folder / "model.json").write_bytes(dump(content | {"schema": 1}))
    save_file(load_file(folder / "model.safetensors"), folder / "model.safetensors")
    return folder


def at(path: Path, read: Callable[[Path], object], given: Path | None = None) -> Reader:
    """Return a reader that writes the content to a file, and reads that or `given`."""
    path.parent.mkdir(parents=True, exist_ok=True)

    def written(content: bytes) -> object:
        path.write_bytes(content)
        return read(given or path)

    return written


def model_json() -> Target:
    specs = (CompactSpec(32, 4), ArchitectureSpec("lenet5", 32, 1), ArchitectureSpec("mlp", 32, 3, {"hidden": [8]}))
    folders = [unsealed(write_checkpoint(Path(f"old{i}"), spec)) for i, spec in enumerate(specs)]
    folders.append(write_checkpoint(Path("model"), CompactSpec(32, 4)))
    return Target(
        [(folder / "model.json").read_bytes() for folder in folders],
        at(folders[-1] / "model.json", _load, folders[-1]),
        dump_sealed,
    )


def _load(folder: Path) -> None:
    """Load a checkpoint and let it predict."""
    classifier = Classifier.load(folder)
    size = classifier.checkpoint.preprocessing.image_size
    if size <= 256:
        classifier.predict_files([b"no image"])
        classifier.probabilities(np.zeros((1, size, size, 3), np.uint8))


def safetensors() -> Target:
    folder = write_checkpoint(Path("model"), CompactSpec(32, 4))
    sealed = (folder / "model.safetensors").read_bytes()
    unsealed(folder)
    return Target([sealed, (folder / "model.safetensors").read_bytes()], at(folder / "model.safetensors", _load, folder))


def weight_folder(suffix: str) -> Target:
    backbone = TorchvisionBackbone(BackboneSpec("squeezenet1_1", 32))
    file = Path("weights", f"squeezenet1_1{suffix}")
    file.parent.mkdir()
    state = {key: value.clone() for key, value in backbone.weights().items()}
    torch.save(state, file) if suffix == ".pth" else save_file(state, file)

    def read(path: Path) -> None:
        weight_files.checked_sha256(path)
        weights.fill(backbone, weights.read(path), str(path))

    return Target([file.read_bytes()], at(file, read))


def provenance() -> Target:
    made = checkpoint.Provenance(
        BackboneSpec("squeezenet1_1", 32), PREPROCESSING.mean, PREPROCESSING.std, "folder", {"sha256": "00"}
    )
    made.write(Path("weights.json"))
    summary = made.summary()
    checkpoint.EmbeddedBackbone(made.architecture, PREPROCESSING, ("a", "b"), summary, False, 12).write(Path("backbone.json"))

    def read(path: Path) -> None:
        with contextlib.suppress(DarkroomError):
            checkpoint.Provenance.read(path)
        checkpoint.EmbeddedBackbone.read(path)

    return Target([Path(name).read_bytes() for name in ("backbone.json", "weights.json")], at(Path("x.json"), read), dump_sealed)


def exported(name: str) -> Target:
    classifier = Classifier.load(write_checkpoint(Path("model"), CompactSpec(32, 4)))
    export.export(classifier, np.zeros((2, 32, 32, 3), np.uint8), Path("out"), ("onnx",))

    def read(folder: Path) -> None:
        ExportedClassifier(folder).predict_files([b"no image"])

    file = Path("out", name)
    seeds = [file.read_bytes()]
    old = json.loads(Path("out/model.json").read_bytes())
    old = {key: value for key, value in old.items() if key not in (checksums.KEY, "files")}
    if name == "model.json":
        return Target([*seeds, dump(old)], at(file, read, Path("out")), dump_sealed)
    Path("out/model.json").write_bytes(dump(old))  # else every program is refused by its checksum
    return Target(seeds, at(file, read, Path("out")))


def source_of(table: str, content: bytes) -> Target:
    """Return the target of a table beside images."""
    for name in ("a", "b", "c", "d"):
        Path("photos").mkdir(exist_ok=True)
        Path("photos", f"{name}.png").write_bytes(name.encode())

    def read(folder: Path) -> None:
        with sources.open_source(folder) as source:
            list(source.files)

    return Target([content], at(Path("photos", table), read, Path("photos")), dump if table.endswith(".json") else None)


ROWS = [
    {"file": f"{name}.png", "label": label, "split": "train"}
    for name, label in zip("abcd", ("ant", "bee", "ant", "bée"), strict=True)
]


def table_csv() -> Target:
    return source_of("labels.csv", pd.DataFrame(ROWS).to_csv(index=False).encode())


def table_json() -> Target:
    return source_of("labels.json", dump(ROWS))


def table_parquet() -> Target:
    pd.DataFrame(ROWS).to_parquet("made.parquet")
    return source_of("labels.parquet", Path("made.parquet").read_bytes())


def archive(suffix: str) -> Target:
    content = io.BytesIO()
    if suffix == ".zip":
        with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as packed:
            for row in ROWS:
                packed.writestr(f"{row['label']}/{row['file']}", row["file"] * 20)
    else:
        with tarfile.open(fileobj=content, mode=f"w:{suffix.removeprefix('.tar').removeprefix('.')}") as tar:
            for row in ROWS:
                member = tarfile.TarInfo(f"{row['label']}/{row['file']}")
                member.size = len(row["file"]) * 20
                tar.addfile(member, io.BytesIO(row["file"].encode() * 20))

    def read(path: Path) -> None:
        with sources.open_source(path) as source:
            for file in source.files:
                if not file.ignored and not file.refused:
                    with contextlib.suppress(OSError, ValueError):  # as its contract has it
                        source.read(file)

    return Target([content.getvalue()], at(Path(f"photos{suffix}"), read))


def npz() -> Target:
    np.savez("made.npz", images=np.zeros((4, 8, 8), np.uint8), labels=np.array(list("abab")))

    def read(path: Path) -> None:
        with sources.open_source(path) as source:
            [source.read(file) for file in source.files]

    return Target([Path("made.npz").read_bytes()], at(Path("photos.npz"), read))


def text_file(text: str, read: Callable[[Path], object], name: str) -> Target:
    return Target([text.encode()], at(Path(name), read))


def yaml_params() -> Target:
    original = (ROOT / "params.yaml").read_bytes()
    plain = dump(params.parse_yaml(original.decode(), "params.yaml"))  # JSON is YAML

    def read(path: Path) -> None:
        params._load.cache_clear() if hasattr(params, "_load") else None
        params.read(path)

    return Target([plain], at(Path("params.yaml"), read), dump)


def yaml_text() -> Target:
    return Target([(ROOT / "params.yaml").read_bytes()], at(Path("params.yaml"), params.read))


def dvc_lock() -> Target:
    content = {"schema": "2.0", "stages": {"a@b": {
        "cmd": "x", "deps": [{"path": "in", "md5": "0" * 32}], "outs": [{"path": "out", "md5": "1" * 32, "size": 3}],
        "params": {"params.yaml": {"a.b": [1, 2], "c": {"d": 1}}},
    }}}  # fmt: skip

    def read(path: Path) -> None:
        stages = dvc_graph.read_lock(path)
        dvc_graph.consistent(stages)
        dvc_graph.upstream(stages, stages)
        assert all(stage.outputs_sha256 for stage in stages.values())

    return Target([dump(content)], at(Path("dvc.lock"), read), dump)


class FakeClient:
    """MLflow's client as far as it opens files; every call succeeds."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if name in ("log_artifact", "log_model_artifacts"):
                open(arguments[1], "rb").close()
            if name.startswith("search"):
                return []
            return SimpleNamespace(
                info=SimpleNamespace(run_id="r", lifecycle_stage="active"), model_id="m", status="READY", source_run_id="r",
                tags={}, experiment_id="1",
            )  # fmt: skip

        return call


def record() -> Target:
    """Return the target of a record: whatever is wrong with one, it is set aside and does not hold up the others."""
    lines: list[dict[str, Any]] = [
        {"kind": "start", "time": 1.5, "key": "k", "stage": "baseline", "name": "baseline", "pipeline": {"key": "p", "name": "n"},
         "params": {"lr": 0.1}, "inputs": {"data/ingested/val": "0" * 32}, "tags": {"a": "b"}},
        {"kind": "metrics", "time": 2.5, "values": {"val_loss": 0.5}, "step": 1},
        {"kind": "tags", "time": 2.5, "values": {"a": "b"}},
        {"kind": "data", "time": 2.5, "name": "val", "source": "s", "digest": "d", "profile": {"n": 1}},
        {"kind": "file", "time": 2.5, "name": "x.csv", "folder": ""},
        {"kind": "table", "time": 2.5, "name": "x.csv", "folder": ""},
        {"kind": "view", "time": 2.5, "name": "study.x", "state": {}, "note": "n"},
        {"kind": "model", "time": 3.5, "sha256": "s", "values": {"val_loss": 0.5}, "step": 1, "name": "baseline", "data": ""},
        {"kind": "end", "time": 4.5, "status": "FINISHED", "error": ""},
    ]  # fmt: skip
    folder = Path(".darkroom/journal/k")
    (folder / "files").mkdir(parents=True)
    (folder / "files/x.csv").write_text("a\n")

    def read(_: Path) -> None:
        upload: Any = runs.Upload(folder, FakeClient())  # type: ignore[arg-type]
        try:
            upload.advance()
        except Exception as error:
            if uploader.is_temporary(error):  # it would be tried again for ever
                raise

    write = at(folder / "record.jsonl", read)
    return Target([dump(lines)], lambda content: write(_as_lines(content)), dump)


def _as_lines(content: bytes) -> bytes:
    """Return a JSON list as lines, and other content as one line."""
    with contextlib.suppress(ValueError, RecursionError):
        values = json.loads(content)
        if isinstance(values, list):
            return b"".join(dump(value) + b"\n" for value in values)
    return content + b"\n"


def served_request() -> Target:
    image = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(image, "PNG")
    text = base64.b64encode(image.getvalue()).decode()
    model = pyfunc_model.ExportedModel()
    settings = SimpleNamespace(image_size=8, resize="crop", background=(0, 0, 0))

    def predict(contents: Iterator[bytes], max_pixels: int) -> Any:
        return predict_files(contents, settings, lambda images: Measured(np.full((len(images), 2), 0.5)), max_pixels)

    model.model = SimpleNamespace(classes=("a", "b"), threshold=None, predict_files=predict)  # type: ignore[assignment]

    def read(content: bytes) -> None:
        try:
            images = json.loads(content)
        except (ValueError, RecursionError):
            images = [content, content.decode("latin-1")]
        with contextlib.suppress(MlflowException):  # over HTTP the status 400
            rows = model.predict(
                None, pd.DataFrame({"image": pd.Series(images if isinstance(images, list) else [images], dtype=object)})
            )
            assert (rows["label"].notna() | rows["error"].notna()).all()

    return Target([dump([text, f"data:image/png;base64,{text}", [text, text]])], read, dump)


def picture() -> Target:
    rng = np.random.default_rng(0)
    pixels = Image.fromarray(rng.integers(0, 256, (40, 48, 3), np.uint8))
    seeds = []
    for kind, options in (
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("PNG", {}),
        ("GIF", {}),
        ("WEBP", {}),
        ("TIFF", {}),
        ("BMP", {}),
    ):
        content = io.BytesIO()
        pixels.save(content, kind, **options)
        seeds.append(content.getvalue())
    return Target(seeds, lambda content: decoding.decode(content, 32, "crop", (0, 0, 0)))


def parquet_manifest() -> Target:
    rows = [manifest.Row(path=f"{i}.png", label="a", split="train", sha256=str(i), pixel_hash=str(i), group="g") for i in range(9)]
    manifest.write(Path("made.parquet"), rows)
    return Target([Path("made.parquet").read_bytes()], at(Path("manifest.parquet"), manifest.read))


def parquet_predictions() -> Target:
    classes, rows = ("a", "b"), {split: [{"path": "x", "sha256": "s", "pixel_hash": "p"}] * 3 for split in predictions.HELD_OUT}
    given = {"baseline": {split: np.full((3, 2), 0.5) for split in rows}}
    predictions.write(Path("made.parquet"), rows, given, dict.fromkeys(rows, np.zeros(3, int)), classes)
    return Target([Path("made.parquet").read_bytes()], at(Path("x.parquet"), lambda path: predictions.read(path, "baseline")))


def promotion() -> Target:
    check = {"name": "x", "passed": True, "is_veto": False, "message": "m"}
    verdict = {"passed": True, "vetoed": False, "champion": "", "checks": [check]}
    decision = Decision(
        "baseline", "0" * 64, 0.5, 0.5, "s", {"name": "darkroom", "version": "1", "aliases": ["champion"]}, True, verdict
    )

    def read(_: Path) -> None:
        content = promotion_file.read()
        promotion_file.registered_elsewhere(content)

    return Target([dump(asdict(decision))], at(Path("reports/promotion.json"), read), dump)


def metrics() -> Target:
    calibration = {"temperature": 1.0, "ece": 0.1, "ece_uncalibrated": 0.1}
    names = (
        "accuracy",
        "balanced_accuracy",
        "macro_f1",
        "weighted_f1",
        "log_loss",
        "brier",
        "val_accuracy",
        "val_macro_f1",
        "val_log_loss",
    )
    model = dict.fromkeys(names, 0.5) | {
        "roc_auc": None, "average_precision": None, "intervals": {"accuracy": [0.1, 0.2]}, "calibration": calibration,
        "parameters": 1, "multiply_adds": 1, "checkpoint_bytes": 1,
    }  # fmt: skip
    content = {
        "schema": 2,
        "best": "baseline",
        "confidence": 0.95,
        "resamples": 10,
        "images": 3,
        "groups": 3,
        "models": {"baseline": model},
    }
    read = partial(metrics_io.read, kind=metrics_io.Metrics)
    return Target([dump(content)], at(Path("metrics.json"), lambda path: leaderboard.describe_selection(read(path))), dump)


def board() -> Target:
    row = leaderboard.Row(model="baseline", kind="model", accuracy=0.5, macro_f1=0.5, parameters=3, ms_per_image=1, train_seconds=1)
    leaderboard.write(Path("made.csv"), [row, row])
    return Target([Path("made.csv").read_bytes()], at(Path("leaderboard.csv"), leaderboard.read))


def npy(name: str) -> Target:
    Path("train").mkdir()
    np.save("train/images.npy", np.zeros((3, 8, 8, 3), np.uint8))
    np.save("train/labels.npy", np.arange(3))

    def read(folder: Path) -> None:
        images, labels = arrays.load_split(folder)
        assert labels.shape == images.shape[:1]

    file = Path("train", name)
    return Target([file.read_bytes()], at(file, read, file.parent))


def epochs() -> Target:
    folder = write_checkpoint(Path("model"), CompactSpec(32, 4))
    seed = (folder / "history.csv").read_bytes()
    return Target([seed], at(folder / "history.csv", checkpoint.read_history, folder))


def folds() -> Target:
    table = pd.DataFrame({
        "model": ["baseline"] * 3, "fold": [0, 1, 1], "group": list("xyz"), "label": list("aba"), "probabilities": [[0.5, 0.5]] * 3,
    })  # fmt: skip
    table.to_parquet("made.parquet")
    file = Path("folds", cross_validation.PREDICTIONS)
    return Target(
        [Path("made.parquet").read_bytes()],
        at(file, lambda folder: cross_validation.read_predictions(folder, ["baseline"], ("a", "b")), file.parent),
    )


def ledger() -> Target:
    line = asdict(Promotion(1.5, "1", "", "why"))
    return Target([dump(line)], lambda content: registry._promotion("darkroom", "tag", content.decode("utf-8", "replace")), dump)


def class_list() -> Target:
    return Target([dump(["ant", "bée"])], at(Path("classes.json"), arrays.load_classes), dump)


def views() -> Target:
    folder = Path("augmented")
    folder.mkdir()
    np.save(folder / "labels.npy", np.arange(3))
    np.save(folder / "images.npy", np.zeros((3, 8, 8, 3), np.uint8))
    storage.write_policy(folder, ViewGenerator("light", 8, 0), 2, "online")
    seed = (folder / "policy.json").read_bytes()
    return Target([seed], at(folder / "policy.json", lambda path: storage.load_views(path, 1), folder), dump)


def monitoring_history() -> Target:
    check = history.DriftCheck.__dataclass_fields__
    line = dict.fromkeys(check, 0)
    return Target([dump(line) + b"\n"], at(Path("log/history.jsonl"), lambda path: history.read(path.parent)), dump)


def drift_reference() -> Target:
    rng = np.random.default_rng(0)
    reference.write(Path("made.npz"), reference.Outputs(rng.random((4, 3)), np.zeros(4, int), rng.random(4)))
    return Target([Path("made.npz").read_bytes()], at(Path("reference.npz"), reference.read))


FIXES, SPLITS = "image,label\na.png,bee\nbé.png,ant\n", "image,split,sha256\na.png,train,00\nbé.png,test,\n"
SUGGESTIONS = "path,label,suggested,sha256,quality,error_probability\na.png,ant,bee,00,0.1,0.9\n"
TARGETS: dict[str, Callable[[], Target]] = {
    "model_json": model_json, "safetensors": safetensors, "weights_safetensors": partial(weight_folder, ".safetensors"),
    "weights_pth": partial(weight_folder, ".pth"), "provenance": provenance, "onnx": partial(exported, "model.onnx"),
    "onnx_json": partial(exported, "model.json"), "table_csv": table_csv, "table_json": table_json, "table_parquet": table_parquet,
    "archive_zip": partial(archive, ".zip"), "archive_tar": partial(archive, ".tar"), "archive_gz": partial(archive, ".tar.gz"),
    "archive_bz2": partial(archive, ".tar.bz2"), "archive_xz": partial(archive, ".tar.xz"), "npz": npz,
    "label_fixes": partial(text_file, FIXES, label_fixes.read, "fixes.csv"),
    "splits": partial(text_file, SPLITS, frozen_splits.read, "splits.csv"),
    "suggestions": partial(text_file, SUGGESTIONS, label_suggestions.read, "issues.csv"),
    "params": yaml_params, "params_text": yaml_text, "dvc_lock": dvc_lock, "record": record, "served_request": served_request,
    "image": picture, "manifest": parquet_manifest, "predictions": parquet_predictions, "promotion": promotion, "metrics": metrics,
    "leaderboard": board, "npy_images": partial(npy, "images.npy"),
    "npy_labels": partial(npy, "labels.npy"), "classes": class_list, "policy": views,
    "history": epochs, "folds": folds, "ledger": ledger, "monitoring": monitoring_history,
    "reference": drift_reference,
}  # fmt: skip
