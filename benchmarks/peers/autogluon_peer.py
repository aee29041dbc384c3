"""AutoGluon MultiModal: `MultiModalPredictor` with the settings of its preset `medium_quality`, its quickest.

The preset's own network, mobilenetv3_large_100, gives way to MobileNetV2 with the common weights, which AutoGluon loads from
a folder as it does a saved model; the learning rate 4e-4 is the preset's. AutoGluon trains the whole network for at most 20
epochs, with rates that fall by 0.9 from layer to layer towards the input, and averages the weights of the three best
validations. It has no setting that keeps the statistics of batch normalisation: they follow the batches.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import common
import numpy as np
import pandas as pd
from autogluon.multimodal import MultiModalPredictor


def fit(folder: Path, weights: Path, size: int, seed: int, *, epochs: int, per_gpu_batch_size: int) -> common.Predict:
    def table(split: str) -> pd.DataFrame:
        files = sorted(path for path in (folder / split).rglob("*") if path.is_file())
        return pd.DataFrame({"image": [str(path) for path in files], "label": [path.parent.name for path in files]})

    predictor = MultiModalPredictor(label="label", presets="medium_quality", path=tempfile.mkdtemp(), verbosity=0)
    predictor.fit(
        table("train"),
        tuning_data=table("val"),
        seed=seed,
        hyperparameters={
            "model.names": ["timm_image"],
            "model.timm_image.checkpoint_name": checkpoint(weights),
            "model.timm_image.image_size": size,
            "optim.max_epochs": epochs,
            "env.num_gpus": 0,
            "env.per_gpu_batch_size": per_gpu_batch_size,
        },
    )

    def predict(split: str) -> tuple[list[str], np.ndarray]:
        data = table(split)
        probabilities = predictor.predict_proba(data.drop(columns="label"))
        return list(data["image"]), probabilities[sorted(probabilities.columns)].to_numpy()

    return predict


def checkpoint(file: Path) -> str:
    """Return a folder that AutoGluon loads as a saved timm model: mobilenetv2_100 with torchvision's weights."""
    import timm_weights
    import torch

    network, folder = timm_weights.network(file), Path(tempfile.mkdtemp())
    torch.save(timm_weights.body(network), folder / "pytorch_model.bin")
    config = {"architecture": timm_weights.NAME, "num_features": network.num_features, "pretrained_cfg": network.default_cfg}
    (folder / "config.json").write_text(json.dumps(config, default=str))
    return str(folder)


if __name__ == "__main__":
    common.run(fit, {"epochs": 20, "per_gpu_batch_size": 32}, ("autogluon.multimodal", "timm", "torch"))
