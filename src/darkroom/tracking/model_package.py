"""A checkpoint as a model of MLflow: code, exported programs and evaluation, without pickles."""

from __future__ import annotations

import logging
import shutil
import warnings
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import AnyType, Array, Map

import darkroom
from darkroom.core.errors import WeightsError, WorkspaceError
from darkroom.tracking import mlflow_client
from darkroom.tracking.entities import EVALUATION, EXPORTED

CODE = (  # Darkroom's modules that predict: the whole package would be a hundred files to send
    "__init__.py", "core/__init__.py", "core/checksums.py", "core/errors.py", "core/lazy.py", "data/__init__.py",
    "data/decoding.py", "data/deep_pixels.py", "data/heif.py", "data/jpeg_markers.py", "data/memory_budget.py",
    "data/quarantine_reasons.py", "data/resizing.py", "data/upright.py",
    "inference/__init__.py", "inference/predict.py", "inference/exported_classifier.py",
    "models/__init__.py", "models/abstention.py", "models/prediction_sets.py", "models/probabilities.py",
)  # fmt: skip
REQUIREMENTS = ("numpy", "opencv-python-headless", "pandas", "pillow", "simplejpeg", "xxhash")  # and one of
ONNX, TORCH = "onnxruntime", "torch"
TOLERANCE = 1e-3  # of a probability, between the package and its checkpoint
INPUTS = Schema([ColSpec(AnyType(), "image")])  # bytes or base64: under `binary` MLflow refuses a request for one bad image
OUTPUTS = Schema([
    ColSpec(DataType.string, "label", required=False), ColSpec(DataType.double, "confidence", required=False),
    ColSpec(DataType.string, "error", required=False), ColSpec(Map(DataType.double), "probabilities", required=False),
    ColSpec(Array(DataType.string), "prediction_set", required=False),
    ColSpec(DataType.double, "distance", required=False), ColSpec(DataType.boolean, "unknown", required=False),
])  # fmt: skip
# of prediction sets (0: none), and float32 or int8
PARAMS = ParamSchema([ParamSpec("coverage", DataType.double, 0.0), ParamSpec("engine", DataType.string, "float32")])


def save(folder: Path, checkpoint: Path, package: Path, model_id: str) -> None:
    """Write a checkpoint as MLflow stores models; `package` has the folders EXPORTED and EVALUATION."""
    source = Path(darkroom.__file__).parent
    engine = ONNX if any((package / EXPORTED).glob("*.onnx")) else TORCH
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    code = folder.with_name("code") / source.name
    for file in CODE:
        (code / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / file, code / file)
    files = folder.with_name("checkpoint")  # MLflow refuses links, which DVC makes with cache.type symlink
    shutil.copytree(checkpoint, files)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        mlflow_client.library().pyfunc.save_model(
            folder,
            mlflow_model=Model(model_id=model_id),
            python_model=str(source / "tracking" / "pyfunc_model.py"),
            artifacts={"checkpoint": str(files), EXPORTED: str(package / EXPORTED), EVALUATION: str(package / EVALUATION)},
            signature=ModelSignature(inputs=INPUTS, outputs=OUTPUTS, params=PARAMS),
            input_example=pd.DataFrame({"image": [_example()]}),
            pip_requirements=[f"{name}=={version(name)}" for name in (*REQUIREMENTS, engine)],
            code_paths=[str(code)],
        )


def _example() -> bytes:
    """Return a PNG with a gradient of colours."""
    shade = np.linspace(0, 255, 32).astype(np.uint8)
    pixels = np.stack([np.tile(shade, (32, 1)), np.tile(shade[:, None], (1, 32)), np.full((32, 32), 128, np.uint8)], axis=-1)
    return bytes(cv2.imencode(".png", pixels)[1].tobytes())


def compare(folder: Path, check: Path) -> None:
    """Load the model of a folder, and compare its predictions on image files with those of its checkpoint.

    `check` has the files `0.png`, `1.png`, … and `expected.npy`: (N, C) probabilities. Raises WeightsError
    where they differ.
    """
    expected = np.load(check / "expected.npy")
    files = [(check / f"{number}.png").read_bytes() for number in range(len(expected))]
    model = mlflow_client.library().pyfunc.load_model(str(folder))
    rows = [list(row.values()) for row in model.predict(pd.DataFrame({"image": files}))["probabilities"]]
    difference = float(np.abs(np.array(rows) - expected).max())
    if not difference <= TOLERANCE:
        raise WeightsError(
            f"the packaged model predicts something else than its checkpoint (a probability differs by {difference:.2g})",
            "`dvc repro -f -s register` packages it again; please report it if that does not help",
        )


def artifacts(folder: Path) -> dict[str, Path]:
    """Return the paths in a model's folder of what `save` packaged, by name; nothing for a model of another origin.

    Raises WorkspaceError where one leads out of the folder: others may write to MLflow.
    """
    parts = Model.load(str(folder)).flavors.get("python_function", {}).get("artifacts", {})
    paths = {name: folder / part["path"] for name, part in parts.items()}
    for path in paths.values():
        if not path.resolve().is_relative_to(folder.resolve()):
            raise WorkspaceError(
                f"the MLmodel of a registered model names files outside of it: {path}",
                "somebody has changed it: `darkroom promote VERSION` makes another version the champion",
            )
    return paths


def copy(source: Path, target: Path, model_id: str) -> Path:
    """Copy a packaged model to be the one with another id; return the copy."""
    shutil.copytree(source, target)
    model = Model.load(str(target))
    model.model_id = model_id
    model.save(str(target / "MLmodel"))
    return target


def created(folder: Path) -> str:
    """Return when a model was packaged, in a form that sorts."""
    return str(Model.load(str(folder)).utc_time_created)


def set_created(folder: Path, milliseconds: int) -> None:
    """Let a model that is packaged again keep its time, by which `sync --restore` orders versions."""
    model = Model.load(str(folder))
    model.utc_time_created = str(datetime.fromtimestamp(milliseconds / 1000, UTC).replace(tzinfo=None))
    model.save(str(folder / "MLmodel"))
