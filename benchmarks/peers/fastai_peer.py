"""fastai: `vision_learner` and `fine_tune`, with what its documentation recommends for photographs.

- Presizing: `Resize` of each file, then `aug_transforms` at the training size in one step, with `min_scale=0.75`.
- `fine_tune`: an epoch of the head alone, then the whole network with one-cycle schedules and learning rates that grow from
  the first layers to the head. `base_lr` is fastai's default, 2e-3.
- The layout channels-last, which its page on callbacks recommends for speed, without half precision, which CPUs lack.
- The running statistics of batch normalisation stay those of the weights, as in Darkroom.
"""

from __future__ import annotations

from pathlib import Path

import common
from fastai.callback.channelslast import ChannelsLast
from fastai.vision.all import (
    Callback,
    ImageDataLoaders,
    Normalize,
    Resize,
    aug_transforms,
    get_image_files,
    imagenet_stats,
    nn,
    set_seed,
    vision_learner,
)


class FrozenStatistics(Callback):
    """Keeps batch normalisation of the pretrained body in evaluation mode."""

    def before_train(self) -> None:
        for module in self.learn.model[0].modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()


def fit(folder: Path, weights: Path, size: int, seed: int, *, epochs: int, batch_size: int, base_lr: float) -> common.Predict:
    set_seed(seed, reproducible=True)
    dls = ImageDataLoaders.from_folder(
        folder,
        train="train",
        valid="val",
        bs=batch_size,
        num_workers=2,
        item_tfms=Resize(size * 5 // 4),
        batch_tfms=[*aug_transforms(size=size, min_scale=0.75), Normalize.from_stats(*imagenet_stats)],
    )
    learn = vision_learner(dls, architecture(weights), cbs=[FrozenStatistics, ChannelsLast])
    with learn.no_bar(), learn.no_logging():
        learn.fine_tune(epochs, base_lr)

    def predict(split: str) -> tuple[list[str], object]:
        files = get_image_files(folder / split)
        with learn.no_bar():
            return files, learn.get_preds(dl=dls.test_dl(files))[0].numpy()

    return predict


def architecture(file: Path):
    """Return the constructor of MobileNetV2 that fastai calls, with the weights of a file instead of a download."""
    from fastai.vision.learner import default_split, model_meta
    from safetensors.torch import load_file
    from torchvision.models import mobilenet_v2

    def pretrained(pretrained: bool = True):
        network = mobilenet_v2(weights=None)
        network.load_state_dict({key: value.float() for key, value in load_file(file).items()})
        return network

    model_meta[pretrained] = {"cut": -1, "split": default_split}  # the body without torchvision's head
    return pretrained


if __name__ == "__main__":
    common.run(fit, {"epochs": 5, "batch_size": 16, "base_lr": 2e-3}, ("fastai", "torch", "torchvision"))
