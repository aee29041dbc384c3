"""Ten initialisations × three seeds of a perceptron on MNIST: the study against training the networks one after another.

    python benchmarks/initialization.py MNIST [--images 60000] [--epochs 2] [--networks 3]

MNIST is a folder with the files as distributed. 784-256-128-10, all images, batches of 128, SGD with momentum.
study     30 runs: stacked by five, two processes side by side, with evaluations of held-out images and layers
stacked   a step of five networks as one, against five steps one after the other, in one thread, images in memory
usual     a network at a time: torchvision's MNIST through a DataLoader, nn.Sequential, torch.optim; `--networks` are timed,
          and their mean is multiplied by 30
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from measuring import alternating, median, report, seconds
from torch import nn
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms

from darkroom.commands.study_run import read_sample
from darkroom.config import study_params
from darkroom.config.params import read_yaml
from darkroom.data.datasets import _unpack_local
from darkroom.models.architectures.features import classifier
from darkroom.studies import runner, summary
from darkroom.studies.trainer import losses
from darkroom.studies.training_settings import InitializationStudy
from darkroom.studies.vectorized import SingleNetwork, StackedNetworks
from darkroom.training.stepper import ParamGroup, Stepper

RUNS, BATCH = 30, 128


def time_study(folder: Path, images: int, epochs: int) -> tuple[float, float]:
    """Return the wall time of the study, and the highest mean accuracy."""
    accuracies: list[float] = []

    def run() -> None:
        content = read_yaml(Path(__file__).parents[1] / study_params.FILE)
        changes = {"source": str(folder), "images": images, "epochs": epochs, "networks": ["mlp"], "seeds": 3}
        content["initialization"]["full"] |= changes
        settings = study_params.parse(content).initialization.full
        sample = read_sample(settings)
        configs = InitializationStudy(settings).runs(len(sample.train_labels))
        assert len(configs) == RUNS
        with tempfile.TemporaryDirectory() as empty:
            results = runner.run(configs, {"": sample}, processes=2, accelerator="cpu", folder=Path(empty))
        accuracies.append(summary.best(summary.summarize(results)).accuracy.value)

    return seconds(run), accuracies[0]


def time_stack(rounds: int = 5, steps: int = 40) -> list[float]:
    """Return milliseconds per step of five networks: as a stack, as a stack by `torch.vmap`, and one after the other."""
    torch.set_num_threads(1)
    x, y = torch.randn(BATCH, 1, 28, 28), torch.randint(0, 10, (BATCH,))
    networks = [classifier("mlp", seed=seed) for seed in range(5)]
    by_vmap = StackedNetworks(networks, x[:2])
    by_vmap.chain = []
    kinds = [[StackedNetworks(networks, x[:2])], [by_vmap], [SingleNetwork(network) for network in networks]]
    steppers = [[Stepper([ParamGroup(list(group.parameters()))], "sgd", 0.01) for group in kind] for kind in kinds]

    def step(kind: int) -> float:
        def run() -> None:
            for _ in range(steps):
                for group, stepper in zip(kinds[kind], steppers[kind], strict=True):
                    stepper(losses(group(x), y).sum())

        return 1000 * seconds(run) / steps

    return [median(times) for times in alternating(rounds, lambda: step(0), lambda: step(1), lambda: step(2))]


def time_usual(folder: Path, images: int, epochs: int, networks: int) -> float:
    """Return the mean wall time of a network that is trained as tutorials do it, and tested after each epoch."""
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as scratch:
        root = _unpack_local("mnist", "MNIST", folder, Path(scratch))
        scale = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
        train = Subset(datasets.MNIST(root, train=True, transform=scale), range(images))
        test = datasets.MNIST(root, train=False, transform=scale)

        def run() -> None:
            model = nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10))
            optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, nesterov=True)
            for _ in range(epochs):
                for x, y in DataLoader(train, batch_size=BATCH, shuffle=True):
                    optimizer.zero_grad()
                    nn.functional.cross_entropy(model(x), y).backward()
                    optimizer.step()
                with torch.no_grad():
                    sum(int((model(x).argmax(1) == y).sum()) for x, y in DataLoader(test, batch_size=500))

        return sum(seconds(run) for _ in range(networks)) / networks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="MNIST as distributed")
    parser.add_argument("--images", type=int, default=60_000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--networks", type=int, default=3)
    arguments = parser.parse_args()
    study_time, accuracy = time_study(arguments.folder, arguments.images, arguments.epochs)
    stack, by_vmap, single = time_stack()
    usual_time = RUNS * time_usual(arguments.folder, arguments.images, arguments.epochs, arguments.networks)
    report(
        "initialization",
        [
            {"what": f"{RUNS} perceptrons, {arguments.images:,} images, {arguments.epochs} epochs",
             "darkroom": f"{study_time:.0f} s", "one by one": f"{usual_time:.0f} s", "ratio": usual_time / study_time},
            {"what": "a step of five networks, one thread", "darkroom": f"{stack:.1f} ms", "one by one": f"{single:.1f} ms",
             "ratio": single / stack},
            {"what": "the same by torch.vmap", "darkroom": f"{by_vmap:.1f} ms", "one by one": f"{single:.1f} ms",
             "ratio": single / by_vmap},
        ],
        {"best mean accuracy": accuracy, "networks timed one by one": arguments.networks},
    )  # fmt: skip


if __name__ == "__main__":
    main()
