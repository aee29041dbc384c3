"""Ten initialisations × three seeds of a perceptron on MNIST: the study's way against training the networks one after another.

    python benchmarks/initialization.py MNIST [--images 60000] [--epochs 2] [--networks 3]

MNIST is a folder with the files as they are distributed. 784-256-128-10, all images, batches of 128, SGD with momentum.
study     30 members: stacked by five, two processes side by side, with looks at held-out images and layers, from files to outcomes
stacked   the step of five members as one, against the same five steps one after the other, in one thread, images in memory
usual     a network at a time: torchvision's MNIST through a DataLoader, nn.Sequential, torch.optim; `--networks` are timed,
          and their mean is multiplied by 30
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from measuring import alternating, median, report, seconds

MEMBERS, BATCH = 30, 128


def study(folder: Path, images: int, epochs: int) -> tuple[float, float]:
    """Return the wall time of the study, and the best mean accuracy."""
    from darkroom.commands.study import read
    from darkroom.config import study_params
    from darkroom.config.params import read_yaml
    from darkroom.studies import initialization, runner, summary

    found: list[float] = []

    def work() -> None:
        content = read_yaml(Path(__file__).parents[1] / study_params.FILE)
        own = {"source": str(folder), "images": images, "epochs": epochs, "networks": ["mlp"], "seeds": 3}
        content["initialization"]["full"] |= own
        settings = study_params.parse(content).initialization.full
        sample = read(settings)
        members = initialization.members(settings, len(sample.train_labels))
        assert len(members) == MEMBERS
        with tempfile.TemporaryDirectory() as empty:
            outcomes = runner.run(members, {"": sample}, processes=2, accelerator="cpu", remembered=Path(empty), what="study")
        found.append(max(line.accuracy.value for line in summary.lines(outcomes)))

    return seconds(work), found[0]


def stacked(rounds: int = 5, steps: int = 40) -> list[float]:
    """Return milliseconds per step of five members: as one by hand, as one by `torch.vmap`, and one after the other."""
    import torch

    from darkroom.models.architectures.features import classifier
    from darkroom.studies.trainer import losses
    from darkroom.studies.vectorized import Alone, Stack
    from darkroom.training.optimizers import OPTIMIZERS

    torch.set_num_threads(1)
    x, y = torch.randn(BATCH, 1, 28, 28), torch.randint(0, 10, (BATCH,))
    networks = [classifier("mlp", seed=seed) for seed in range(5)]
    by_vmap = Stack(networks, x[:2])
    by_vmap.chain = []
    groups = [[Stack(networks, x[:2])], [by_vmap], [Alone(network) for network in networks]]
    optimizers = [[OPTIMIZERS["sgd"]([{"params": list(group.parameters()), "lr": 0.01}], weight_decay=0.0) for group in kind] for kind in groups]

    def step(kind: int) -> float:
        def work() -> None:
            for _ in range(steps):
                for group, optimizer in zip(groups[kind], optimizers[kind], strict=True):
                    optimizer.zero_grad()
                    losses(group(x), y).sum().backward()
                    optimizer.step()

        return 1000 * seconds(work) / steps

    return [median(times) for times in alternating(rounds, lambda: step(0), lambda: step(1), lambda: step(2))]


def usual(folder: Path, images: int, epochs: int, networks: int) -> float:
    """Return the mean wall time of a network that is trained as tutorials do it, and tested after each epoch."""
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, Subset
    from torchvision import datasets, transforms

    from darkroom.data.datasets import _unpack_local

    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as scratch:
        root = _unpack_local("mnist", "MNIST", folder, Path(scratch))
        scale = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
        train = Subset(datasets.MNIST(root, train=True, transform=scale), range(images))
        test = datasets.MNIST(root, train=False, transform=scale)

        def work() -> None:
            model = nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10))
            optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, nesterov=True)
            for _ in range(epochs):
                for x, y in DataLoader(train, batch_size=BATCH, shuffle=True):
                    optimizer.zero_grad()
                    nn.functional.cross_entropy(model(x), y).backward()
                    optimizer.step()
                with torch.no_grad():
                    sum(int((model(x).argmax(1) == y).sum()) for x, y in DataLoader(test, batch_size=500))

        return sum(seconds(work) for _ in range(networks)) / networks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=60_000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--networks", type=int, default=3)
    given = parser.parse_args()
    taken, accuracy = study(given.folder, given.images, given.epochs)
    together, by_vmap, apart = stacked()
    theirs = MEMBERS * usual(given.folder, given.images, given.epochs, given.networks)
    report(
        "initialization",
        [
            {"what": f"{MEMBERS} perceptrons, {given.images:,} images, {given.epochs} epochs", "darkroom": f"{taken:.0f} s",
             "one by one": f"{theirs:.0f} s", "ratio": theirs / taken},
            {"what": "a step of five members, one thread", "darkroom": f"{together:.1f} ms", "one by one": f"{apart:.1f} ms",
             "ratio": apart / together},
            {"what": "the same by torch.vmap", "darkroom": f"{by_vmap:.1f} ms", "one by one": f"{apart:.1f} ms",
             "ratio": apart / by_vmap},
        ],
        {"best mean accuracy": accuracy, "networks timed one by one": given.networks},
    )  # fmt: skip


if __name__ == "__main__":
    main()
