"""The usual recipe: transfer learning as PyTorch's tutorial does it, by somebody who knows how.

Run by benchmarks/transfer.py, and by benchmarks/accuracy.py through peers/tutorial_peer.py.

ImageFolder with train, val and test, random crops and mirror images, a DataLoader with two workers that stay;
the head alone for some epochs with everything else frozen, then the last blocks with it. The epoch with the
lowest validation loss is kept. Prints JSON: seconds from the first batch on, and the test accuracy.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Predict = Callable[[str], tuple[list[str], np.ndarray]]


def fit(
    folder: Path, weights: Path | None, size: int, seed: int, *, network_name: str, trained: list[str], head_epochs: int,
    finetune_epochs: int, threads: int, smallest_crop: float = 0.5, channels_last: bool = False,
    times: dict[str, float] | None = None,
) -> Predict:  # fmt: skip
    """Return what predicts a split: the paths of its images and their probabilities (N, C).

    `trained` are the names of the modules that are fine-tuned; `times` takes the seconds from the first batch on, of
    the head and of all.
    """
    import torch
    from torch import nn
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms

    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    normalize = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    augmented = transforms.Compose([
        transforms.RandomResizedCrop(size, scale=(smallest_crop, 1.0)), transforms.RandomHorizontalFlip(),
        transforms.ColorJitter(0.2, 0.2, 0.2), transforms.ToTensor(), normalize,
    ])  # fmt: skip
    plain = transforms.Compose([
        transforms.Resize(size), transforms.CenterCrop(size), transforms.ToTensor(), normalize,
    ])  # fmt: skip

    def loader(split: str) -> DataLoader:
        data = datasets.ImageFolder(str(folder / split), augmented if split == "train" else plain)
        return DataLoader(data, batch_size=64, shuffle=split == "train", num_workers=2, persistent_workers=True)

    train, val = loader("train"), loader("val")
    network = pretrained(network_name, weights)
    classes = len(train.dataset.classes)  # type: ignore[attr-defined]
    if network_name.startswith("vgg"):
        network.avgpool, network.classifier = nn.AdaptiveAvgPool2d(1), nn.Linear(512, classes)
        head = network.classifier
    else:
        head = network.classifier[-1] = nn.Linear(network.classifier[-1].in_features, classes)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network.to(memory_format=layout)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.05)

    def logits(loader: DataLoader) -> tuple[torch.Tensor, torch.Tensor]:
        network.eval()
        with torch.no_grad():
            batches = [(network(images.to(memory_format=layout)), labels) for images, labels in loader]
        return torch.cat([outputs for outputs, _ in batches]), torch.cat([labels for _, labels in batches])

    def train_modules(modules: list[nn.Module], epochs: int, lr: float) -> None:
        for parameter in network.parameters():
            parameter.requires_grad = False
        parameters = [parameter for module in modules for parameter in module.parameters()]
        for parameter in parameters:
            parameter.requires_grad = True
        optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(train))
        best, best_state = float("inf"), {}
        for _ in range(epochs):
            network.eval()  # frozen statistics: those of the weights, as fine-tuning guides advise for small sets
            for images, labels in train:
                loss = criterion(network(images.to(memory_format=layout)), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
            loss = nn.functional.cross_entropy(*logits(val)).item()
            if loss < best:
                best, best_state = loss, {key: value.clone() for key, value in network.state_dict().items()}
        if best_state:
            network.load_state_dict(best_state)

    started = time.perf_counter()
    train_modules([head], head_epochs, 1e-3)
    head_seconds = time.perf_counter() - started
    if finetune_epochs:
        train_modules([head, *(network.get_submodule(name) for name in trained)], finetune_epochs, 5e-4)
    if times is not None:
        times.update(seconds=time.perf_counter() - started, head_seconds=head_seconds)

    def predict(split: str) -> tuple[list[str], np.ndarray]:
        data = loader(split) if split != "val" else val
        return [path for path, _ in data.dataset.samples], logits(data)[0].softmax(1).numpy()  # type: ignore[attr-defined]

    return predict


def pretrained(network_name: str, file: Path | None) -> Any:
    """Return torchvision's network with the weights of a file instead of a download; random ones without a file."""
    from safetensors.torch import load_file
    from torchvision import models

    network = models.get_model(network_name, weights=None)
    if file:
        network.load_state_dict({key: value.float() for key, value in load_file(file).items()})
    return network


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--network", default="mobilenet_v2")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--head-epochs", type=int, default=10)
    parser.add_argument("--finetune-epochs", type=int, default=10)
    parser.add_argument("--trained", nargs="*", default=[], help="names of the modules that are fine-tuned")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    times: dict[str, float] = {}
    predict = fit(
        options.folder, options.weights, options.size, options.seed, network_name=options.network, trained=options.trained,
        head_epochs=options.head_epochs, finetune_epochs=options.finetune_epochs, threads=options.threads, times=times,
    )  # fmt: skip
    paths, probabilities = predict("test")
    classes = sorted(path.name for path in (options.folder / "train").iterdir())
    labels = np.array([classes.index(Path(path).parent.name) for path in paths])
    accuracy = float((probabilities.argmax(1) == labels).mean())
    print(json.dumps({**times, "accuracy": accuracy, "tested": len(paths)}))


if __name__ == "__main__":
    main()
