"""Run a study: networks that differ in one thing, over seeds, at equal cost; studies/params.yaml says on what and how long.

A study that was stopped goes on where it was. `dvc repro studies/dvc.yaml:study@NAME` runs it as a stage.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darkroom import params
from darkroom.errors import ParamsError

if TYPE_CHECKING:
    from darkroom.studies.members import Member, Outcome, Sample
    from darkroom.studies.params import Setting
    from darkroom.studies.registry import Study

OUT = Path("reports/studies")
TOLD = ("policy", "views", "image_size", "images", "weights", "blocks")  # in the record of a member that has them
TOLD = ("policy", "views", "image_size", "images", "weights", "blocks")  # of a member's record, where it has them


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
    from darkroom.studies import params as own
    from darkroom.studies import registry

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
    settings = own.parse(content, "with --set, studies/params.yaml" if given.set else str(own.FILE))
    chosen: Setting = getattr(getattr(settings, given.name), size)
    sample = read(chosen)
    members = study.members(chosen, len(sample.train_labels))
    everything = {"": sample} | {label: other(chosen, source, sample) for label, source in registry.samples(study, chosen).items()}
    outcomes = trained(given.name, members, everything, chosen, settings.machine)
    compared = registry.derived(study, chosen, outcomes, sample)
    report(given.name, study, compared, sample, chosen, size, given.out or OUT / given.name, given.cost)
    return 0


def changed(content: Any, name: str, size: str, items: list[str]) -> None:
    """Put the values of --set into what the file holds."""
    content[name][size] |= dict(map(params.assignment, items))


def read(settings: Setting, data: str = "", images: int | None = None) -> Sample:
    """Return the images that the settings ask for, or those of another source, with the same size and channels."""
    from darkroom.data.subsets import Wanted, subset
    from darkroom.studies.members import Sample

    source, most = data or settings.data, images if data else settings.images
    found = subset(Wanted(source, settings.image_size, settings.channels, most, settings.held_out, settings.source))
    return Sample(*found.train, *found.held, len(found.classes), found.digest)


def other(settings: Any, source: str, own: Sample) -> Sample:
    """Return what networks are trained on before: another source, or the study's own images, turned."""
    from darkroom.studies.rotations import rotated
    from darkroom.studies.transfer import ROTATIONS

    return rotated(own) if source == ROTATIONS else read(settings, source, settings.before_images)


def trained(
    name: str, members: list[Member], samples: dict[str, Sample], settings: Setting, machine: Any
) -> list[Outcome]:  # fmt: skip
    """Train what is not remembered, each member with a record of its own, and return what all came to."""
    from darkroom.studies import running
    from darkroom.tracking import journal, provenance

    stage = provenance.stage_name(f"study@{name}")
    common = {f"study.{key}": value for key, value in settings.model_dump().items() if not isinstance(value, list)}

    def record(outcome: Outcome) -> None:
        member = outcome.member
        own = {"panel": member.panel, "label": member.label, "seed": member.seed, "architecture": member.architecture}
        own |= {"scheme": member.scheme} if member.scheme else {}
        own |= member.options
        own |= {key: getattr(member, key) for key in TOLD if getattr(member, key) not in ("", 0, None)}
        own |= {"start": member.start.label} if member.start else {}
        with journal.run(stage, common | {f"study.{key}": value for key, value in own.items()}, []) as run:
            run.lasted(outcome.seconds)
            run.tag({"darkroom.study": name, "darkroom.data": samples[member.on].digest})
            for row in outcome.curve:
                run.metrics({key: value for key, value in row.items() if key != "step" and value is not None}, row["step"])
            run.metrics({"parameters": outcome.parameters, "multiply_adds": outcome.multiply_adds, "lr": outcome.lr})
            run.metrics({"ms_per_image": outcome.latency})

    return running.run(
        members, samples, processes=machine.processes, accelerator=machine.accelerator, what=f"study {name}", on_done=record
    )


def report(
    name: str, study: Study, outcomes: Sequence[Outcome], sample: Sample, settings: Setting, size: str, out: Path, cost: Path | None
) -> None:
    """Write everything, and say what was found."""
    from darkroom.studies import summary, writing

    data = {
        "name": settings.data, "images": len(sample.train_labels), "held_out": len(sample.held_labels), "classes": sample.classes,
        "image_size": settings.image_size, "channels": settings.channels, "sha256": sample.digest,
    }  # fmt: skip
    facts = {"size": size, "data": data, "settings": settings.model_dump()}
    finding, lines = writing.write(out, name, study, facts, outcomes)
    writing.cost(cost or OUT / "cost" / name, outcomes)
    print(summary.text(lines))
    print(f"\n{finding}\n\nto look at: {out / 'index.html'}")
