"""A checkpoint as MLflow stores it: the code and the programs that answer, and what is kept beside them; no pickle.

Whoever makes it a version hands over a folder with EXPORTED and EVALUATION, which are kept, and CHECK, which is not.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import darkroom
from darkroom.core.errors import WeightsError
from darkroom.tracking import mlflow_client

EXPORTED = "exported"  # the programs that answer when it is served
EVALUATION = "evaluation"  # what the model said of validation and test, and which images it has seen
REFERENCE = "reference.npz"  # in EVALUATION: what it makes of images that it has not learnt, which new ones are compared with
CHECK = "check"  # image files and what the checkpoint says of them
CODE = (  # of Darkroom's, that answers: a folder of a whole package would be a hundred files to send
    "__init__.py", "data/__init__.py", "data/decoding.py", "data/quarantine_reasons.py", "inference/__init__.py",
    "inference/predict.py",
    "inference/exported.py",
)  # fmt: skip
REQUIREMENTS = ("numpy", "opencv-python-headless", "pandas", "pillow", "simplejpeg", "xxhash")  # to answer, with one of the next
ONNX, TORCH = "onnxruntime", "torch"
CLOSE = 1e-3  # by how much a probability may differ from the checkpoint's, and in which a wrong one would show


def save(folder: Path, checkpoint: Path, beside: Path, model_id: str) -> None:
    """Write the checkpoint as MLflow stores models: code, programs and what is kept beside them, no pickle."""
    import logging
    import warnings

    import pandas as pd
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Map

    mlflow = mlflow_client.library()
    package = Path(darkroom.__file__).parent
    engine = ONNX if any((beside / EXPORTED).glob("*.onnx")) else TORCH
    said: list[Any] = [
        ColSpec(DataType.string, "label", required=False),
        ColSpec(DataType.double, "confidence", required=False),
        ColSpec(DataType.string, "error", required=False),
        ColSpec(Map(DataType.double), "probabilities", required=False),
    ]
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    code = folder.with_name("code") / package.name
    for file in CODE:
        (code / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(package / file, code / file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        mlflow.pyfunc.save_model(
            folder,
            mlflow_model=Model(model_id=model_id),
            python_model=str(package / "tracking" / "pyfunc_model.py"),
            artifacts={"checkpoint": str(checkpoint), EXPORTED: str(beside / EXPORTED), EVALUATION: str(beside / EVALUATION)},
            signature=ModelSignature(inputs=Schema([ColSpec(DataType.binary, "image")]), outputs=Schema(said)),
            input_example=pd.DataFrame({"image": [_example()]}),
            pip_requirements=_pinned((*REQUIREMENTS, engine)),
            code_paths=[str(code)],
        )


def _example() -> bytes:
    """Return a small PNG of nothing in particular."""
    import cv2
    import numpy as np

    shade = np.linspace(0, 255, 32).astype(np.uint8)
    pixels = np.stack([np.tile(shade, (32, 1)), np.tile(shade[:, None], (1, 32)), np.full((32, 32), 128, np.uint8)], axis=-1)
    return bytes(cv2.imencode(".png", pixels)[1].tobytes())


def compare(folder: Path, check: Path) -> None:
    """Load what would be registered, and compare what it says of image files with what the checkpoint says of them."""
    import numpy as np
    import pandas as pd

    expected = np.load(check / "expected.npy")
    files = [(check / f"{number}.png").read_bytes() for number in range(len(expected))]
    loaded = mlflow_client.library().pyfunc.load_model(str(folder))
    got = [list(row.values()) for row in loaded.predict(pd.DataFrame({"image": files}))["probabilities"]]
    apart = float(np.abs(np.array(got) - expected).max())
    if not apart <= CLOSE:
        raise WeightsError(
            f"the packaged model says something else than its checkpoint (a probability differs by {apart:.2g})",
            "`dvc repro -f register` packages it again; please report it if that does not help",
        )


def _pinned(names: tuple[str, ...]) -> list[str]:
    from importlib.metadata import version

    return [f"{name}=={version(name)}" for name in names]
