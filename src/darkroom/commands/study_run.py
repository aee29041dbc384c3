"""What `darkroom study` does: reads the images, runs the study, records each run and writes the results."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from darkroom.commands import study_pool, study_records
from darkroom.commands.study_gallery import draw_gallery, draw_images
from darkroom.config import package_files, params, study_params
from darkroom.config.study_settings import Setting
from darkroom.core import atomic
from darkroom.core.errors import ParamsError, SourceError
from darkroom.course.lessons import PAGES
from darkroom.data import datasets
from darkroom.data.subsets import SubsetOptions, load_subset
from darkroom.studies import chart_data, page, plots, registry, runner, summary
from darkroom.studies.base import Study
from darkroom.studies.cache import ResultCache
from darkroom.studies.run_config import RunResult
from darkroom.studies.samples import ROTATIONS, Sample
from darkroom.studies.summary import HEADINGS, SummaryRow

__all__ = ["HEADINGS", "run_study"]

GALLERY = "predictions.png"


def run_study(
    name: str, size: str | None, items: Sequence[str], out: Path, cost: Path, pool: str | None = None
) -> tuple[str, list[SummaryRow]]:  # fmt: skip
    """Run a study and write its results; return the finding and a row per label.

    `items` are values (KEY=VALUE) in place of those of studies/params.yaml, `pool` is the work pool that trains. Raises
    ParamsError for a mistake in them, and for output folders that hold anything but the results of a study.
    """
    kind = registry.load(name)
    content = params.read_yaml(package_files.find(study_params.FILE))
    size = size or study_params.parse(content).size
    if not study_params.has_size(content, name, size):
        raise ParamsError(f"{study_params.FILE} has no size {size} of {name}", "add it, or choose another --size")
    content[name][size] |= dict(map(params.parse_assignment, items))
    all_params = study_params.parse(content, ", or what --set says" if items else "")
    settings: Setting = getattr(getattr(all_params, name), size)
    machine = all_params.machine
    check_folders(out, cost)
    study = kind(settings)
    sample = read_sample(settings)
    samples = {"": sample} | study.extra_samples(sample, partial(read_sample, settings))
    with study_records.start(study, name, settings, samples) as record:
        study.search(samples, machine.accelerator, record.add)
        configs = study.runs(len(sample.train_labels))
        if pool:
            study_pool.train(pool, configs, ResultCache(samples, machine.accelerator), record.add)
        results = runner.run(
            configs, samples, processes=machine.processes, accelerator=machine.accelerator,
            description=f"study {name}", on_result=record.add,
        )  # fmt: skip
        finding, rows = write_results(out, cost, name, study, size, sample, study.compared(results, sample))
        record.finish(results, finding, out)
    return finding, rows


def check_folders(out: Path, cost: Path) -> None:
    """Refuse folders that would be replaced although they hold anything but the results of a study."""
    for folder, file in ((out, "summary.json"), (cost, "cost.csv")):
        if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / file).is_file())):
            raise ParamsError(f"{folder} exists and does not hold the results of a study", "name a new folder")
    first, second = out.resolve(), cost.resolve()
    if first == second or first in second.parents or second in first.parents:
        raise ParamsError(f"--out {out} and --cost {cost} overlap", "name two folders, none inside the other")


def lesson_address(name: str, out: Path) -> str | None:
    """Return the address of a study's lesson in the page of its results; None if either is not in the project."""
    lesson = PAGES / f"{name}.md"
    if not lesson.is_file() or not out.resolve().is_relative_to(Path.cwd()):
        return None
    return Path(os.path.relpath(lesson, out.resolve())).as_posix()


def read_sample(settings: Setting, source: str = "", images: int | None = None) -> Sample:
    """Return the images of a study or of a pretraining, at the same size and channels."""
    data, limit = source or settings.data, images if source else settings.images
    options = SubsetOptions(data, settings.image_size, settings.channels, limit, settings.held_out, settings.source)
    try:
        part = load_subset(options, [ROTATIONS] if source else [])
    except SourceError as error:
        hint = "; a set that was downloaded elsewhere can be an .npz, --set data=FILE.npz; --size smoke needs no download"
        is_download = data in datasets.DATASETS and settings.source == "download"
        raise SourceError(error.problem, f"{error.remedy}{hint if is_download else ''}", error.retryable) from error
    sample = Sample(*part.train, *part.held_out, len(part.classes), part.digest, part.classes)
    return sample.with_held_out(settings.held_out_images) if settings.held_out_images else sample


def write_results(
    out: Path, cost: Path, name: str, study: Study, size: str, sample: Sample, results: Sequence[RunResult]
) -> tuple[str, list[SummaryRow]]:
    """Write tables, summary.json, a picture and a page, and into `cost` what differs from run to run.

    Return the finding and the rows. Each folder appears whole or not at all.
    """
    rows = summary.summarize(results)
    finding = study.finding(rows, results)
    compared, further = chart_data.compare(results, rows), study.charts(results)
    settings = study.settings
    data = {
        "name": settings.data, "images": len(sample.train_labels), "held_out": len(sample.val_labels),
        "classes": sample.classes, "image_size": settings.image_size, "channels": settings.channels, "sha256": sample.digest,
    }  # fmt: skip
    facts: dict[str, Any] = {"size": size, "data": data, "settings": settings.model_dump()}
    tables = summary.tables(results) | study.tables()
    costs = tables.pop("cost.csv")
    shown = study.shown(results)
    gallery = draw_gallery(study.title, sample, shown) if shown else None
    images = draw_images(settings.data, sample)
    files = [*tables, "summary.json", f"{name}.png", *([GALLERY] if gallery else [])]
    lesson = lesson_address(name, out)
    tables["index.html"] = page.render(study, finding, rows, compared, further, files, lesson, images, gallery, facts)
    with atomic.new_folder(out) as working:
        for file, text in tables.items():
            (working / file).write_text(text, encoding="utf-8")
        (working / f"{name}.png").write_bytes(plots.draw_study(compared, further))
        if gallery:
            (working / GALLERY).write_bytes(gallery)
        atomic.write_json(working / "summary.json", {
            "study": name, "question": study.question, "held_constant": study.held_constant, "finding": finding, **facts,
            "rows": [row.as_dict() for row in rows], "figures": study.figures(rows, results),
        })  # fmt: skip
    with atomic.new_folder(cost) as working:
        (working / "cost.csv").write_text(costs, encoding="utf-8")
        (working / "latency.png").write_bytes(plots.draw_latency(results))
    return finding, rows
