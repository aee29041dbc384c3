"""Run a study: networks that differ in one thing, over seeds, at equal cost; studies/params.yaml says on what and how long.

A study that was stopped goes on where it was. `dvc repro studies/dvc.yaml:study@NAME` runs it as a stage.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from darkroom.config import params
from darkroom.core.errors import ParamsError, nearest

if TYPE_CHECKING:
    from darkroom.config.study_params import Setting
    from darkroom.studies.registry import Study
    from darkroom.studies.run_config import Outcome, Sample

OUT = Path("reports/studies")
TOLD = (  # of a member's record, where it has them
    "lr", "optimizer", "schedule", "batch_size", "weight_decay", "warmup", "scheme", "policy", "views", "image_size", "images",
    "weights", "blocks",
)  # fmt: skip


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser("darkroom study", description=__doc__)
    parser.add_argument("name", nargs="?", help="a study")
    parser.add_argument("--list", action="store_true", help="list the studies")
    parser.add_argument(
        "--size", choices=("quick", "full"), help="minutes, or as long as it takes (default: that of studies/params.yaml)"
    )
    parser.add_argument(
        "--set", metavar="KEY=VALUE", nargs="+", default=[], help="other values than the file's: seeds=5 data=~/photos"
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help=f"default: {OUT}/NAME")
    parser.add_argument("--cost", type=Path, metavar="FOLDER", help=f"what differs from run to run (default: {OUT}/cost/NAME)")
    given = parser.parse_args(arguments)
    from darkroom.config import study_params as own
    from darkroom.studies import registry, runner

    if given.list:
        width = max(map(len, registry.NAMES))
        print("\n".join(f"{name:<{width}}  {text}" for name, text in registry.NAMES.items()))
        return 0
    if not given.name:
        raise ParamsError("which study?", f"name one: darkroom study {next(iter(registry.NAMES))}; --list shows them")
    study = registry.study(given.name)
    content = params.read_yaml(own.FILE)
    written = own.parse(content)
    size = given.size or written.size
    changed(content, given.name, size, given.set)
    settings = own.parse(content, ", or what --set says" if given.set else "")
    chosen: Setting = getattr(getattr(settings, given.name), size)
    out, cost = given.out or OUT / given.name, given.cost or OUT / "cost" / given.name
    check(out, cost)
    sample = read(chosen)
    everything = {"": sample} | {label: other(chosen, source, sample) for label, source in registry.samples(study, chosen).items()}
    record = recorder(given.name, everything, chosen)
    study = registry.searched(study, chosen, everything, settings.machine.accelerator, record)
    members = study.members(chosen, len(sample.train_labels))
    outcomes = runner.run(
        members, everything, processes=settings.machine.processes, accelerator=settings.machine.accelerator,
        what=f"study {given.name}", on_done=record,
    )  # fmt: skip
    compared = registry.derived(study, chosen, outcomes, sample)
    report(given.name, study, compared, sample, chosen, size, out, cost)
    return 0


def check(out: Path, cost: Path) -> None:
    """Refuse folders that hold anything but what a study has written: they will be replaced."""
    for folder, own in ((out, "summary.json"), (cost, "cost.csv")):
        if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / own).is_file())):
            raise ParamsError(f"{folder} is there, and is not what a study has written", "name a new folder")
    one, other = out.resolve(), cost.resolve()
    if one == other or one in other.parents or other in one.parents:
        raise ParamsError(f"--out {out} and --cost {cost} are within each other", "name two folders that are not")


def changed(content: Any, name: str, size: str, items: list[str]) -> None:
    """Put the values of --set into what the file holds."""
    content[name][size] |= dict(map(params.assignment, items))


def read(settings: Setting, data: str = "", images: int | None = None) -> Sample:
    """Return the images that the settings ask for, or those of another source, with the same size and channels."""
    from darkroom.data import datasets
    from darkroom.data.subsets import Wanted, subset
    from darkroom.studies.run_config import Sample
    from darkroom.studies.transfer import ROTATIONS

    source, most = data or settings.data, images if data else settings.images
    if source not in datasets.DATASETS and not Path(source).expanduser().exists():
        known = [*datasets.DATASETS, ROTATIONS] if data else list(datasets.DATASETS)
        raise ParamsError(
            f'there are no images "{source}"{nearest(source, known)}', f"name a folder, an archive, an .npz, or {', '.join(known)}"
        )
    found = subset(Wanted(source, settings.image_size, settings.channels, most, settings.held_out, settings.source))
    return Sample(*found.train, *found.held, len(found.classes), found.digest)


def other(settings: Any, source: str, own: Sample) -> Sample:
    """Return what else networks are trained on: the study's own training images split again, or turned, or another source."""
    from darkroom.studies.rotations import rotated
    from darkroom.studies.search import INNER, inner
    from darkroom.studies.transfer import ROTATIONS

    if source == INNER and hasattr(settings, "inner"):
        return inner(own, settings.inner)
    return rotated(own) if source == ROTATIONS else read(settings, source, settings.before_images)


def recorder(name: str, samples: Mapping[str, Sample], settings: Setting) -> Callable[..., None]:
    """Return what gives each member that was trained a record of its own, with tags beside those that all have."""
    from darkroom.tracking import provenance, records

    stage = provenance.stage_name(f"study@{name}")
    common = {f"study.{key}": value for key, value in settings.model_dump().items() if not isinstance(value, (list, dict))}

    def record(outcome: Outcome, tags: Mapping[str, str] = MappingProxyType({})) -> None:
        member = outcome.member
        own = {"panel": member.panel, "label": member.label, "seed": member.seed, "architecture": member.architecture}
        own |= {key: getattr(member, key) for key in TOLD if getattr(member, key) not in ("", 0, None)}
        own |= member.options
        own |= {"start": member.start.label} if member.start else {}
        with records.run(stage, common | {f"study.{key}": value for key, value in own.items()}, []) as run:
            run.lasted(outcome.seconds)
            run.tag({"darkroom.study": name, "darkroom.data": samples[member.on].digest, **tags})
            for row in outcome.curve:
                run.metrics({key: value for key, value in row.items() if key != "step" and value is not None}, row["step"])
            run.metrics({"parameters": outcome.parameters, "multiply_adds": outcome.multiply_adds, "lr": outcome.lr})
            run.metrics({"ms_per_image": outcome.latency})

    return record


def report(
    name: str, study: Study, outcomes: Sequence[Outcome], sample: Sample, settings: Setting, size: str, out: Path, cost: Path
) -> None:
    """Write everything, and say what was found."""
    from darkroom.studies import outputs, summary

    data = {
        "name": settings.data, "images": len(sample.train_labels), "held_out": len(sample.held_labels), "classes": sample.classes,
        "image_size": settings.image_size, "channels": settings.channels, "sha256": sample.digest,
    }  # fmt: skip
    facts = {"size": size, "data": data, "settings": settings.model_dump()}
    finding, lines = outputs.write(out, name, study, facts, outcomes)
    outputs.cost(cost, outcomes)
    print(summary.text(lines))
    print(f"\n{finding}\n\nto look at: {out / 'index.html'}")
