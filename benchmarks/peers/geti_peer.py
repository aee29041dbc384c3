"""Geti's training library, getitune: `create_engine` and `train` with the recipe of its MobileNet.

The recipe is getitune's own `mobilenet_v3_large`: SGD at 0.0058 after a warm-up of ten steps, halved where F1 on validation stands
still, at most 90 epochs, which end where F1 stands still, and the epoch with the highest F1. Its network gives way to MobileNetV2
with the common weights, by getitune's class for timm's networks, which takes weights from a file. Its augmentation stays, with
crops from 8% of the image on. It has no setting that keeps the statistics of batch normalisation: they follow the batches. No
processes of their own load images, each of which would begin by importing torch anew, and it computes in 32 bits, as CPUs do.
`predict` of getitune 0.4.0 leaves out the normalisation that the recipe has among its augmentations on the GPU; it is done here.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import common
import getitune
import numpy as np
import polars
import torch
import yaml
from datumaro.experimental import Dataset, Sample
from datumaro.experimental.categories import LabelCategories
from datumaro.experimental.export_import import ExportMode, export_dataset
from datumaro.experimental.fields import Subset, image_path_field, label_field, subset_field
from getitune.engine import create_engine
from torchvision.transforms.v2.functional import normalize

SUBSETS = {"train": Subset.TRAINING, "val": Subset.VALIDATION, "test": Subset.TESTING}
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RECIPES = Path(getitune.__file__).parent / "recipe/classification/multi_class_cls"


class Photograph(Sample):
    image: str = image_path_field()
    label: int = label_field(polars.UInt16())
    subset: Subset = subset_field()


def fit(folder: Path, weights: Path, size: int, seed: int, *, epochs: int, workers: int) -> common.Predict:
    work = Path(tempfile.mkdtemp())
    classes = sorted(path.name for path in (folder / "train").iterdir())
    files = {split: sorted(path for path in (folder / split).rglob("*") if path.is_file()) for split in SUBSETS}
    data = Dataset(Photograph, categories={"label": LabelCategories(tuple(classes))})
    for split, subset in SUBSETS.items():
        for path in files[split]:
            data.append(Photograph(image=str(path), label=classes.index(path.parent.name), subset=subset))
    export_dataset(data, work / "data", export_media=ExportMode.COPY)

    recipe, of_timm = (yaml.safe_load((RECIPES / f"{name}.yaml").read_text()) for name in ("mobilenet_v3_large", "timm_generic"))
    recipe["model"]["class_path"] = of_timm["model"]["class_path"]
    recipe["model"]["init_args"] |= {"model_name": "mobilenetv2_100", "pretrained_weights": checkpoint(weights)}
    recipe["data"] = str(RECIPES.parents[1] / "_base_/data/classification.yaml")
    subsets = {f"{split}_subset": {"num_workers": workers} for split in SUBSETS}
    recipe["overrides"] |= {"data": {"input_size": [size, size]} | subsets}
    (work / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    engine = create_engine(str(work / "recipe.yaml"), str(work / "data"), work_dir=work / "run", device="cpu")
    engine.train(max_epochs=epochs, seed=seed, precision="32")

    model = engine.model
    model.load_state_dict(engine._load_model_checkpoint(engine.checkpoint))  # of the epoch with the highest F1, as predict() does
    model.eval()

    def predict(split: str) -> tuple[list[Path], np.ndarray]:
        loader = getattr(engine.datamodule, f"{split}_dataloader")()
        with torch.inference_mode():
            rows = [model.model(normalize(batch.images, *IMAGENET), mode="tensor").softmax(1) for batch in loader]
        return files[split], torch.cat(rows).numpy()

    return predict


def checkpoint(file: Path) -> str:
    """Return a file that getitune loads into timm's mobilenetv2_100."""
    import timm_weights

    saved = Path(tempfile.mkdtemp()) / "mobilenetv2_100.pth"
    torch.save(timm_weights.body(timm_weights.network(file)), saved)
    return str(saved)


if __name__ == "__main__":
    common.run(fit, {"epochs": 90, "workers": 0}, ("getitune", "timm", "torch"))
