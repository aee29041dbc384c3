"""Runs of a study as jobs for other machines: files with all that decides a result, and the result under its content address.

A folder has `dvc.yaml` with a stage for each job, and below FOLDER `jobs/KEY.json`, `samples/DIGEST.safetensors` and, for each unit
of runs that are trained together, `results/KEY.jsonl` with the key of `cache`. So DVC brings images there and results back, and
what its remote has is not trained again. The jobs of a study are always the same, whatever is cached.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from darkroom.core import json_files
from darkroom.core.errors import WorkspaceError
from darkroom.core.progress import Progress
from darkroom.models import tensor_files
from darkroom.studies import cache, trainer
from darkroom.studies.base import count_multiply_adds
from darkroom.studies.cache import ResultCache, Samples
from darkroom.studies.run_config import RunConfig
from darkroom.studies.samples import ARRAYS, Sample

Unit = list[RunConfig]

FOLDER = Path("study_members")
JOBS, SAMPLES, RESULTS = FOLDER / "jobs", FOLDER / "samples", FOLDER / "results"
GRAPH = Path("dvc.yaml")
COMMAND = "study-member"  # of `darkroom`, which runs a job
WORK = 1e12  # multiply-adds of a job, about a minute of one core; a unit with more is a job of its own
PASSES = 3  # through a network in a step: forward, and backward to inputs and to weights
LABEL = 40  # characters of a label in the name of a stage
REMEDY = "`darkroom study NAME --pool POOL` writes and runs jobs"


@dataclass(frozen=True)
class SampleFile:
    """A sample whose arrays are in a file."""

    file: str
    classes: int
    digest: str
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """Units of runs that begin alike; paths are relative to the folder of `dvc.yaml`."""

    units: list[Unit]
    samples: dict[str, SampleFile]  # by `RunConfig.sample`, those of the runs and of their pretraining
    accelerator: str
    is_gpu: bool
    initial: str  # the file of initial weights, of another job; empty without one
    weights: str  # the file of the last weights, where others begin with them
    results: list[str]  # a file for each unit


def group_units(units: Sequence[Unit], samples: Samples) -> list[list[Unit]]:
    """Return units as jobs, in order: neighbours that begin alike, up to WORK."""
    groups: list[list[Unit]] = []
    amount, last = 0.0, ""
    for unit in units:
        start, work = json.dumps(unit[0].pretraining and unit[0].pretraining.key()), sum(_work(config, samples) for config in unit)
        if not groups or start != last or amount + work > WORK:
            groups.append([])
            amount, last = 0.0, start
        groups[-1].append(unit)
        amount += work
    return groups


def write(folder: Path, starts: Sequence[Unit], groups: Sequence[list[Unit]], results_cache: ResultCache) -> None:
    """Write a job for each group of units, and for each run that they start from, whose weights are kept."""
    for part in (JOBS, SAMPLES):
        (folder / part).mkdir(parents=True)
    stages = {}
    for units, is_start in [*(([unit], True) for unit in starts), *((units, False) for units in groups)]:
        job = _job(folder, units, is_start, results_cache)
        key = hashlib.sha256(json.dumps(job.results).encode()).hexdigest()[:32]
        file = JOBS / f"{key}.json"
        (folder / file).write_bytes(json_files.adapter(Job).dump_json(job))
        reads = [file.as_posix(), *sorted({sample.file for sample in job.samples.values()}), *filter(None, [job.initial])]
        stages[_stage_name(units, key)] = {
            "cmd": f"darkroom {COMMAND} {file.as_posix()}", "deps": reads, "outs": [*job.results, *filter(None, [job.weights])],
        }  # fmt: skip
    (folder / GRAPH).write_text(json.dumps({"stages": stages}, indent=1), encoding="utf-8")  # JSON is YAML


def run(file: Path) -> None:
    """Train the units of a job, in the folder of its `dvc.yaml`, and write their results.

    Raises WorkspaceError where this machine would make other results than the one that wrote the job.
    """
    try:
        job = json_files.read(file, Job, REMEDY)
    except FileNotFoundError as error:
        raise WorkspaceError(f"there is no {file} here ({Path.cwd()})", REMEDY) from error
    samples = {name: _read_sample(sample) for name, sample in job.samples.items()}
    accelerator = job.accelerator if job.is_gpu else "cpu"
    results = ResultCache(samples, job.accelerator, RESULTS, is_cpu=not job.is_gpu)
    if results.is_gpu != job.is_gpu:
        raise WorkspaceError(
            "this machine has no GPU, and the study that asks has one",
            "start workers on machines with a GPU alone, or set machine.accelerator to cpu in studies/params.yaml",
        )
    if [results.file(unit).name for unit in job.units] != [Path(file).name for file in job.results]:
        raise WorkspaceError(
            "this machine has another Darkroom, or other libraries, than the one that asks: its result would be another one",
            f"install the same versions there ({', '.join(cache.LIBRARIES)}), and `git add` new files of code here",
        )
    save_to, initial = (Path(path) if path else None for path in (job.weights, job.initial))
    with Progress("training", sum(config.steps for unit in job.units for config in unit), "steps") as progress:
        for unit in job.units:
            sample = samples[unit[0].sample]
            trained = trainer.train(unit, sample, accelerator, progress.advance, initial=initial, save_to=save_to)
            cache.write(results.file(unit), trained)


def _job(folder: Path, units: list[Unit], is_start: bool, results_cache: ResultCache) -> Job:
    first = units[0][0]
    names = {config.sample for unit in units for config in (unit[0], first.pretraining) if config}
    results = [(RESULTS / results_cache.file(unit).name).as_posix() for unit in units]
    initial, weights = (
        (RESULTS / results_cache.weights_file(config).name).as_posix() if config else ""
        for config in (first.pretraining, first if is_start else None)
    )
    samples = {name: _write_sample(folder, results_cache.samples[name]) for name in sorted(names)}
    return Job(units, samples, results_cache.accelerator, results_cache.is_gpu, initial, weights, results)


def _work(config: RunConfig, samples: Samples) -> float:
    """Return the multiply-adds of a training."""
    size, channels = config.image_size or samples[config.sample].train_images.shape[2], samples[config.sample].train_images.shape[1]
    return PASSES * config.steps * config.batch_size * count_multiply_adds(config.architecture, size, channels, config.options)


def _write_sample(folder: Path, sample: Sample) -> SampleFile:
    file = SAMPLES / f"{sample.digest[:32]}.safetensors"
    if not (folder / file).exists():
        tensor_files.save(folder / file, {name: torch.tensor(getattr(sample, name)) for name in ARRAYS})
    return SampleFile(file.as_posix(), sample.classes, sample.digest, sample.class_names)


def _read_sample(sample: SampleFile) -> Sample:
    tensors = tensor_files.load(Path(sample.file), f"`dvc pull --force {sample.file}`")
    arrays = {name: tensors[name].numpy() for name in ARRAYS}
    return Sample(**arrays, classes=sample.classes, digest=sample.digest, class_names=sample.class_names)


def _stage_name(units: Sequence[Unit], key: str) -> str:
    """Return a name that DVC takes and a person recognises."""
    first, count = units[0][0], sum(map(len, units))
    words = f"{first.comparison} {first.label} {first.seed}" if count == 1 else f"{first.comparison} {count} runs"
    return f"{re.sub(r'[^A-Za-z0-9]+', '-', words)[:LABEL].strip('-')}-{key[:8]}"
