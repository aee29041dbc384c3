"""What other programs on the machine cost: training, embedding and evaluation beside busy processes.

    python benchmarks/busy.py [--beside 0 1 2 4] [--seconds 12] [--rounds 3] [--tasks train finetune embed evaluate]
        [--also "asleep OMP_WAIT_POLICY=PASSIVE" "intel LD_PRELOAD=libiomp5.so KMP_BLOCKTIME=0"]

For each number of busy processes and each task, the time of a unit over that on the quiet machine, divided by what a fair share
of the cores would make of it: with t threads beside k processes on c cores, the threads' share is c·t / (t + k). 1 is fair. Each
measurement is a process of its own; `spin` has libgomp's default, `give way` what Darkroom does (models/give_way.py), and the
rounds alternate. Nothing else may run: the load before each round is printed. `--also` names further kinds by the variables that
they set.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
from measuring import report

THREADS = 2
TASKS = ("train", "finetune", "embed", "evaluate")
# libgomp's default, set: so that nothing gives way
KINDS: dict[str, dict[str, str]] = {"spin": {"GOMP_SPINCOUNT": "300000"}, "give way": {}}
LOOP = "while True: pass"


def task(name: str) -> Callable[[], object]:
    """Return a function that does a unit of the task: a training step, or a pass over a batch."""
    import torch

    from darkroom.models import engine, factory
    from darkroom.models.architectures.compact import Compact
    from darkroom.models.base import Network, Preprocessing
    from darkroom.models.specs import BackboneSpec, CompactSpec

    rng = np.random.default_rng(0)
    side = {"train": 32, "finetune": 32, "embed": 96, "evaluate": 96}[name]
    shown = Preprocessing(side, "crop", (0, 0, 0), (0.5,) * 3, (0.25,) * 3)
    images = rng.integers(0, 256, (64, side, side, 3), np.uint8)
    if name == "train":
        network = Network(Compact(CompactSpec(side, 16), 0), shown, 10, 0)
    else:
        network = Network(factory.build_features(BackboneSpec("mobilenet_v3_small", side)), shown, 10)
    if name == "embed":
        frozen = engine.select_engine(network.eval(), images, torch.device("cpu"), THREADS)
        return lambda: list(frozen.stream(images[start : start + frozen.batch] for start in range(0, len(images), frozen.batch)))
    inputs, labels = torch.from_numpy(images), torch.from_numpy(rng.integers(0, 10, len(images)))
    if name == "evaluate":
        network.eval()

        @torch.inference_mode()
        def classify() -> object:
            return network(inputs)

        return classify
    optimizer = torch.optim.SGD(network.parameters(), 0.01)

    def step() -> object:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(inputs), labels)
        loss.backward()
        optimizer.step()
        return loss

    return step


def measure(name: str, seconds: float) -> float:
    """Return the seconds of a unit, after a third of the time, in which the threads adapt."""
    from darkroom.config.params import Compute
    from darkroom.training.devices import prepare

    prepare(Compute(seed=0, threads=THREADS, accelerator="cpu", precision="32-true"))
    unit, started, ended = task(name), time.monotonic(), []
    while not ended or ended[-1] < seconds:
        unit()
        ended.append(time.monotonic() - started)
    late = [end for end in ended if end > seconds / 3]
    return (late[-1] - late[0]) / (len(late) - 1) if len(late) > 1 else ended[-1] / len(ended)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beside", nargs="*", type=int, default=[0, 1, 2, 4], help="numbers of busy processes")
    parser.add_argument("--seconds", type=float, default=12.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    parser.add_argument("--also", nargs="+", default=[], metavar="KIND", help="NAME VARIABLE=VALUE …, one argument for each")
    parser.add_argument("--task", choices=TASKS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    for text in options.also:
        name, *settings = text.split()
        KINDS[name] = dict(setting.split("=", 1) for setting in settings)
    if options.task:
        print(measure(options.task, options.seconds))
        return
    times: dict[tuple[str, str, int], list[float]] = {}
    for number in range(options.rounds):
        print(f"round {number + 1}: load {os.getloadavg()[0]:.2f} before", flush=True)
        for count in options.beside:
            loops = [subprocess.Popen([sys.executable, "-c", LOOP]) for _ in range(count)]
            try:
                for name in options.tasks:
                    for kind, settings in KINDS.items():
                        times.setdefault((name, kind, count), []).append(one(name, settings, options.seconds))
            finally:
                for loop in loops:
                    loop.kill()
                    loop.wait()
    report("busy", rows(times, options.tasks, options.beside))


def one(name: str, settings: dict[str, str], seconds: float) -> float:
    """Return the seconds of a unit, in a process of its own."""
    command = [sys.executable, __file__, "--task", name, "--seconds", str(seconds)]
    result = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, check=True)
    return float(result.stdout.split()[-1])


def rows(times: dict[tuple[str, str, int], list[float]], tasks: list[str], process_counts: list[int]) -> list[dict[str, object]]:
    """Return the medians by task: milliseconds on the quiet machine, and how many times what is fair beside others."""
    cores, result = os.cpu_count() or 1, []
    for name in tasks:
        quiet = statistics.median(times[name, "spin", process_counts[0]])
        for kind in KINDS:
            row: dict[str, object] = {"task": name, "threads": kind}
            for count in process_counts:
                fair = quiet * max(1.0, min(THREADS, cores) / (cores * THREADS / (THREADS + count)))
                row[f"beside {count}"] = round(statistics.median(times[name, kind, count]) / fair, 2)
            row["quiet ms"] = round(1000 * quiet, 1)
            result.append(row)
    return result


if __name__ == "__main__":
    main()
