"""What `darkroom study` does: reads the images, runs the study, records each run and writes the results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from darkroom.config import params, study_params
from darkroom.config.study_params import Setting
from darkroom.core import atomic, pages
from darkroom.core.errors import ParamsError, nearest
from darkroom.data import datasets
from darkroom.data.subsets import SubsetOptions, load_subset
from darkroom.studies import plots, registry, runner, summary
from darkroom.studies.base import Study
from darkroom.studies.run_config import RunResult
from darkroom.studies.samples import ROTATIONS, Sample
from darkroom.studies.summary import HEADINGS, SummaryRow
from darkroom.tracking import records

__all__ = ["HEADINGS", "run_study"]
RECORDED = (  # fields of a run that its record has, unless they are empty
    "lr", "optimizer", "schedule", "batch_size", "weight_decay", "warmup", "scheme", "policy", "views", "image_size", "images",
    "weights", "trained_blocks",
)  # fmt: skip


def run_study(
    name: str, size: str | None, items: Sequence[str], out: Path, cost: Path
) -> tuple[str, list[SummaryRow]]:  # fmt: skip
    """Run a study and write its results; return the finding and a row per label.

    `items` are values (KEY=VALUE) in place of those of studies/params.yaml. Raises ParamsError for a mistake
    in them, and for output folders that hold anything but the results of a study.
    """
    kind = registry.load(name)
    content = params.read_yaml(study_params.FILE)
    size = size or study_params.parse(content).size
    content[name][size] |= dict(map(params.parse_assignment, items))
    all_params = study_params.parse(content, ", or what --set says" if items else "")
    settings: Setting = getattr(getattr(all_params, name), size)
    machine = all_params.machine
    check_folders(out, cost)
    study = kind(settings)
    sample = read_sample(settings)
    samples = {"": sample} | study.extra_samples(sample, partial(read_sample, settings))
    record = recorder(name, samples, settings)
    study.search(samples, machine.accelerator, record)
    results = runner.run(
        study.runs(len(sample.train_labels)), samples, processes=machine.processes, accelerator=machine.accelerator,
        description=f"study {name}", on_result=record,
    )  # fmt: skip
    compared = study.compared(results, sample)
    return write_results(out, cost, name, study, size, sample, compared)


def check_folders(out: Path, cost: Path) -> None:
    """Refuse folders that would be replaced although they hold anything but the results of a study."""
    for folder, file in ((out, "summary.json"), (cost, "cost.csv")):
        if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / file).is_file())):
            raise ParamsError(f"{folder} exists and does not hold the results of a study", "name a new folder")
    first, second = out.resolve(), cost.resolve()
    if first == second or first in second.parents or second in first.parents:
        raise ParamsError(f"--out {out} and --cost {cost} overlap", "name two folders, none inside the other")


def read_sample(settings: Setting, source: str = "", images: int | None = None) -> Sample:
    """Return the images of a study or of a pretraining, at the same size and channels."""
    data, limit = source or settings.data, images if source else settings.images
    if data not in datasets.DATASETS and not Path(data).expanduser().exists():
        names = [*datasets.DATASETS, *([ROTATIONS] if source else [])]
        raise ParamsError(
            f'there are no images "{data}"{nearest(data, names)}', f"name a folder, an archive, an .npz, or {', '.join(names)}"
        )
    options = SubsetOptions(data, settings.image_size, settings.channels, limit, settings.held_out, settings.source)
    part = load_subset(options)
    return Sample(*part.train, *part.held_out, len(part.classes), part.digest)


def recorder(name: str, samples: Mapping[str, Sample], settings: Setting) -> Callable[..., None]:
    """Return a function that writes the record of a run, with further tags."""
    stage = f"study@{name}"
    common = {key: value for key, value in settings.model_dump().items() if not isinstance(value, (list, dict))}

    def record(result: RunResult, tags: Mapping[str, str] = MappingProxyType({})) -> None:
        config = result.config
        own = {key: getattr(config, key) for key in ("comparison", "label", "seed", "architecture")}
        own |= {key: getattr(config, key) for key in RECORDED if getattr(config, key) not in ("", 0, None)}
        own |= config.options
        own |= {"pretraining": config.pretraining.label} if config.pretraining else {}
        with records.start_run(stage, {f"study.{key}": value for key, value in {**common, **own}.items()}, []) as run:
            run.set_duration(result.seconds)
            run.set_tags({"darkroom.study": name, "darkroom.data": samples[config.sample].digest, **tags})
            for point in result.curve:
                values = {key: value for key, value in vars(point).items() if key != "step" and value is not None}
                run.log_metrics(values, point.step)
            run.log_metrics({"parameters": result.parameters, "multiply_adds": result.multiply_adds, "lr": result.lr})
            run.log_metrics({"ms_per_image": result.latency})

    return record


def write_results(
    out: Path, cost: Path, name: str, study: Study, size: str, sample: Sample, results: Sequence[RunResult]
) -> tuple[str, list[SummaryRow]]:
    """Write tables, summary.json, a picture and a page, and into `cost` what differs from run to run.

    Return the finding and the rows. Each folder appears whole or not at all.
    """
    rows = summary.summarize(results)
    finding = study.finding(rows, results)
    picture = plots.draw_study(results, rows, study.draw)
    settings = study.settings
    data = {
        "name": settings.data, "images": len(sample.train_labels), "held_out": len(sample.val_labels),
        "classes": sample.classes, "image_size": settings.image_size, "channels": settings.channels, "sha256": sample.digest,
    }  # fmt: skip
    facts: dict[str, Any] = {"size": size, "data": data, "settings": settings.model_dump()}
    tables = summary.tables(results) | study.tables()
    costs = tables.pop("cost.csv")
    tables["index.html"] = pages.render(
        "studies", "study.html.j2", source=study.title, study=study, finding=finding,
        picture=pages.data_uri("image/png", picture),
        headings=summary.HEADINGS, rows=[row.cells() for row in rows], **facts,
    )  # fmt: skip
    with atomic.new_folder(out) as working:
        for file, text in tables.items():
            (working / file).write_text(text, encoding="utf-8")
        (working / f"{name}.png").write_bytes(picture)
        atomic.write_json(working / "summary.json", {
            "study": name, "question": study.question, "held_constant": study.held_constant, "finding": finding, **facts,
            "rows": [row.as_dict() for row in rows],
        })  # fmt: skip
    with atomic.new_folder(cost) as working:
        (working / "cost.csv").write_text(costs, encoding="utf-8")
        (working / "latency.png").write_bytes(plots.draw_latency(results))
    return finding, rows
