"""Run a study: results that are cached are read, the other runs are trained, side by side on a CPU."""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from darkroom.core.errors import ParamsError
from darkroom.core.progress import Progress
from darkroom.studies import cache, trainer
from darkroom.studies.cache import ResultCache, Samples
from darkroom.studies.initial_weights import build_network
from darkroom.studies.run_config import RunConfig, RunResult
from darkroom.studies.samples import Sample, SampleLoader
from darkroom.studies.vectorized import is_faster
from darkroom.training.devices import device_of

MAX_STACK = 5  # runs: larger stacks gain little, and leave less to do side by side
CPU = torch.device("cpu")

_worker_samples: dict[str, Sample] = {}  # the images of a worker process

Unit = list[RunConfig]
OnResult = Callable[[RunResult], None]


def run(
    configs: Sequence[RunConfig],
    samples: Samples,
    *,
    processes: int = 1,
    accelerator: str = "auto",
    folder: Path = cache.FOLDER,
    description: str = "study",
    on_result: OnResult = lambda result: None,
) -> list[RunResult]:
    """Return the result of each run, in order. `samples` has the study's images under "", others by name.

    Runs that others are initialised from are trained first, once each. Results are cached as soon as a unit
    is trained, so a study that was stopped continues where it was. Runs that differ only in comparison and
    label are trained once. `on_result` is called for each run that is trained now. On a GPU one process
    trains all.
    """
    results_cache = ResultCache(samples, accelerator, folder)
    results: dict[str, RunResult] = {}
    todo = []
    for unit in group_different(configs, samples, accelerator):
        cached = cache.read(results_cache.file(unit), unit)
        if cached is None:
            todo.append(unit)
        else:
            results |= {result.config.training_key(): result for result in cached}
    check_networks([unit[0] for unit in todo], samples)
    pretrain([unit[0] for unit in todo], results_cache, processes, on_result)
    if todo:
        with Progress(description, sum(config.steps for unit in todo for config in unit), "steps") as progress:
            count = len({config.training_key() for config in configs})
            progress.note = f"{len(results)} of {count} results cached" if results else ""
            for result in _train_units(todo, results_cache, processes, progress, on_result):
                results[result.config.training_key()] = result
    return [replace(results[config.training_key()], config=config) for config in configs]


def group_different(configs: Sequence[RunConfig], samples: Samples, accelerator: str) -> list[Unit]:
    """Return the runs in units, of those that differ only in their names the first."""
    first = {config.training_key(): config for config in reversed(configs)}
    return group_units([config for config in configs if first[config.training_key()] is config], samples, accelerator)


def starts_of(configs: Sequence[RunConfig]) -> list[Unit]:
    """Return the runs that these are initialised from."""
    return list({config.pretraining.key(): [config.pretraining] for config in configs if config.pretraining}.values())


def pretrain(configs: Sequence[RunConfig], results_cache: ResultCache, processes: int, on_result: OnResult) -> None:
    """Train the runs that these are initialised from, unless their weights are there."""
    if todo := [unit for unit in starts_of(configs) if not results_cache.weights_file(unit[0]).is_file()]:
        with Progress("pretraining", sum(unit[0].steps for unit in todo), "steps") as progress:
            for _ in _train_units(todo, results_cache, processes, progress, on_result, save_weights=True):
                pass


def group_units(configs: Sequence[RunConfig], samples: Samples, accelerator: str) -> list[Unit]:
    """Return the runs in units that are trained together: stacks where that is faster, else one by one."""
    device = device_of(accelerator)
    groups: dict[str, Unit] = {}
    for config in configs:
        groups.setdefault(config.stack_key(), []).append(config)
    stackable: dict[str, bool] = {}
    units = []
    for group in groups.values():
        config = group[0]
        key = json.dumps([config.architecture, config.options, config.image_size], sort_keys=True)
        alone = len(group) == 1 or config.weights or config.pretraining or config.tta_modes or not config.lr
        alone = alone or config.trained_blocks is not None
        if not alone and key not in stackable:
            loader = _example_loader(config, samples)
            stackable[key] = is_faster(build_network(config, loader), loader.normalize(loader.train_x[:2]), device)
        size = 1 if alone or not stackable[key] else MAX_STACK
        units += [group[i : i + size] for i in range(0, len(group), size)]
    return units


def check_networks(configs: Sequence[RunConfig], samples: Samples) -> None:
    """Build each network once, before any is trained. Raises ParamsError if that fails."""
    different = {json.dumps([c.architecture, c.options, c.weights, c.image_size, c.trained_blocks, c.scheme]): c for c in configs}
    for config in different.values():
        loader = _example_loader(config, samples)
        try:
            build_network(config, loader)
        except (RuntimeError, ValueError, TypeError, ArithmeticError) as error:
            network = f"{config.architecture} with {config.options} for images of {loader.train_x.shape[2]} pixels"
            raise ParamsError(
                f"{network} cannot be built: {error}", "`darkroom models describe NAME` lists the options of an architecture"
            ) from error


def _example_loader(config: RunConfig, samples: Samples) -> SampleLoader:
    """Return a loader with two images, to build a network with."""
    return SampleLoader(samples[config.sample].head(2), CPU, config)


def _train_units(
    todo: list[Unit], results_cache: ResultCache, processes: int, progress: Progress, on_result: OnResult,
    save_weights: bool = False,
) -> Iterator[RunResult]:  # fmt: skip
    """Train units, in this process or side by side on a CPU; cache and yield each result."""

    def files(unit: Unit) -> dict[str, Any]:
        start = unit[0].pretraining
        return {
            "initial": results_cache.weights_file(start) if start else None,
            "save_to": results_cache.weights_file(unit[0]) if save_weights else None,
        }

    def store(unit: Unit, results: list[RunResult], steps: int) -> list[RunResult]:
        last = results[-1]
        progress.advance(steps, f"{last.config.comparison} {last.config.label} {last.accuracy:.4f}")
        cache.write(results_cache.file(unit), results)
        for result in results:
            on_result(result)
        return results

    accelerator, samples = results_cache.accelerator, results_cache.samples
    if min(processes, len(todo)) < 2 or results_cache.is_gpu:
        for unit in todo:
            before = progress.done
            results = trainer.train(unit, samples[unit[0].sample], accelerator, progress.advance, **files(unit))
            yield from store(unit, results, before + _steps(unit) - progress.done)
        return
    # new processes, not forked ones: a fork would inherit torch's threads in a state in which they cannot continue
    context = multiprocessing.get_context("spawn")
    needed = {unit[0].sample: samples[unit[0].sample] for unit in todo}
    with ProcessPoolExecutor(min(processes, len(todo)), context, _start_worker, (needed,)) as pool:
        futures = {}
        for unit in sorted(todo, key=lambda unit: -_steps(unit)):
            futures[pool.submit(_train_in_worker, unit, accelerator, files(unit))] = unit
        try:
            for future in as_completed(futures):
                unit = futures[future]
                yield from store(unit, future.result(), _steps(unit))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _steps(unit: Unit) -> int:
    return sum(config.steps for config in unit)


def _start_worker(samples: Samples) -> None:
    """Keep the images of this process, and end it when its parent has ended, however that happened."""
    parent: Any = multiprocessing.parent_process()

    def wait() -> None:
        parent.join()
        os._exit(1)

    _worker_samples.update(samples)
    threading.Thread(target=wait, daemon=True).start()


def _train_in_worker(unit: Unit, accelerator: str, files: dict[str, Any]) -> list[RunResult]:
    return trainer.train(unit, _worker_samples[unit[0].sample], accelerator, **files)
