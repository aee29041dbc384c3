"""The usual recipe: transfer learning as PyTorch's tutorial does it, by somebody who knows how.

Run by benchmarks/transfer.py.

ImageFolder with train, val and test, random crops and mirror images, a DataLoader with two workers that stay;
the head alone for some epochs with everything else frozen, then the last blocks with it. The epoch with the
lowest validation loss is kept. Prints JSON: seconds from the first batch on, and the test accuracy.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path


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

    import torch
    from safetensors.torch import load_file
    from torch import nn
    from torch.utils.data import DataLoader
    from torchvision import datasets, models, transforms

    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    normalize = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    augmented = transforms.Compose([
        transforms.RandomResizedCrop(options.size, scale=(0.5, 1.0)), transforms.RandomHorizontalFlip(),
        transforms.ColorJitter(0.2, 0.2, 0.2), transforms.ToTensor(), normalize,
    ])  # fmt: skip
    plain = transforms.Compose([
        transforms.Resize(options.size), transforms.CenterCrop(options.size), transforms.ToTensor(), normalize,
    ])  # fmt: skip

    def loader(split: str) -> DataLoader:
        data = datasets.ImageFolder(str(options.folder / split), augmented if split == "train" else plain)
        return DataLoader(data, batch_size=64, shuffle=split == "train", num_workers=2, persistent_workers=True)

    train, val, test = (loader(split) for split in ("train", "val", "test"))
    network = models.get_model(options.network, weights=None)
    if options.weights:
        network.load_state_dict({key: value.float() for key, value in load_file(options.weights).items()})
    classes = len(train.dataset.classes)  # type: ignore[attr-defined]
    if options.network.startswith("vgg"):
        network.avgpool, network.classifier = nn.AdaptiveAvgPool2d(1), nn.Linear(512, classes)
        head = network.classifier
    else:
        head = network.classifier[-1] = nn.Linear(network.classifier[-1].in_features, classes)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.05)

    def evaluate(loader: DataLoader) -> tuple[float, float]:
        network.eval()
        total = correct = count = 0.0
        with torch.no_grad():
            for images, labels in loader:
                logits = network(images)
                total += nn.functional.cross_entropy(logits, labels, reduction="sum").item()
                correct += (logits.argmax(1) == labels).sum().item()
                count += len(labels)
        return total / count, correct / count

    def fit(modules: list[nn.Module], epochs: int, lr: float) -> None:
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
                loss = criterion(network(images), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
            loss, _ = evaluate(val)
            if loss < best:
                best, best_state = loss, {key: value.clone() for key, value in network.state_dict().items()}
        if best_state:
            network.load_state_dict(best_state)

    started = time.perf_counter()
    fit([head], options.head_epochs, 1e-3)
    head_seconds = time.perf_counter() - started
    if options.finetune_epochs:
        fit([head, *(network.get_submodule(name) for name in options.trained)], options.finetune_epochs, 5e-4)
    taken = time.perf_counter() - started
    accuracy = evaluate(test)[1]
    print(json.dumps({"seconds": taken, "head_seconds": head_seconds, "accuracy": accuracy, "tested": len(test.dataset)}))  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
