"""Run the members of a study: what is remembered is not trained again, the rest side by side."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from darkroom.core import atomic
from darkroom.core.errors import ParamsError
from darkroom.core.progress import Progress
from darkroom.studies.run_config import Member, Outcome, Sample

Samples = Mapping[str, Sample]  # by what `Member.on` calls them
REMEMBERED = Path(".darkroom/studies")
MOST = 5  # members of a stack: more would gain little, and leave less to do side by side
DECIDING = (
    "answering.py", "beginning.py", "feeding.py", "finder.py", "members.py", "probing.py", "rotations.py",
    "schedules.py", "searching.py", "training.py", "vectorized.py",
)  # fmt: skip # of this room: what a figure depends on

LIBRARIES = ("torch", "torchvision", "albumentations", "opencv-python-headless", "numpy")


@cache
def code() -> str:
    """Return what identifies the code that trains: a change of it makes a study train again, one of a page does not."""
    here = Path(__file__).parent
    sources = [here / name for name in DECIDING]
    sources += sorted(path for room in ("augmentation", "models", "training") for path in (here.parent / room).rglob("*.py"))
    sha = hashlib.sha256("".join(f"{name} {version(name)}\n" for name in LIBRARIES).encode())
    for file in sources:
        sha.update(f"{file.relative_to(here.parent)}\n".encode() + file.read_bytes())
    return sha.hexdigest()


def units(members: Sequence[Member], samples: Samples, accelerator: str) -> list[list[Member]]:
    """Return the members that are trained together: those that are alike, where that is faster; the others alone."""
    import torch

    from darkroom.config.params import Compute
    from darkroom.studies.batches import Feed, part
    from darkroom.studies.initial_weights import build
    from darkroom.studies.vectorized import is_worth_it
    from darkroom.training.devices import device_of

    device = device_of(Compute(seed=0, threads=1, accelerator=accelerator, precision="32-true"))  # type: ignore[arg-type]
    alike: dict[str, list[Member]] = {}
    for member in members:
        alike.setdefault(member.alike(), []).append(member)
    known: dict[str, bool] = {}
    made = []
    for group in alike.values():
        first = group[0]
        what = json.dumps([first.architecture, first.options, first.image_size], sort_keys=True)
        alone = len(group) == 1 or first.weights or first.start or first.blocks is not None or not first.lr or first.ways
        if not alone and what not in known:
            sample = part(replace(samples[first.on], held_images=samples[first.on].held_images[:2]), replace(first, images=2))
            feed = Feed(sample, torch.device("cpu"))
            known[what] = is_worth_it(build(first, sample, feed), feed.normalized(feed.x[:2]), device)
        size = MOST if not alone and known[what] else 1
        made += [group[i : i + size] for i in range(0, len(group), size)]
    return made


def run(
    members: Sequence[Member],
    samples: Samples,
    *,
    processes: int = 1,
    accelerator: str = "auto",
    remembered: Path = REMEMBERED,
    what: str = "study",
    on_done: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """Return what each member came to, in their order; `samples` has the study's images under "", others by their names.

    Networks that members begin with are trained first, once each, and their weights kept. Each unit of members is remembered as
    soon as it is trained, in a file that is named by their settings, the images and the code and holds a checksum: a study
    that was stopped goes on where it was. `on_done` is called for each member trained now, also for those that others begin with.
    Members that differ in nothing but their panels and labels are trained once. On a GPU one process trains all.
    """
    place = Place(samples, accelerator, remembered)
    first = {_training(member): member for member in reversed(members)}
    found: dict[str, Outcome] = {}
    todo = []
    for unit in units([member for member in members if first[_training(member)] is member], samples, accelerator):
        kept = recall(place.file(unit), unit)
        if kept is None:
            todo.append(unit)
        else:
            found.update({_training(outcome.member): outcome for outcome in kept})
    check([unit[0] for unit in todo], samples)
    starts = {_key(unit[0].start): [unit[0].start] for unit in todo if unit[0].start}
    before = [unit for unit in starts.values() if not place.weights(unit[0]).is_file()]
    if not todo:
        return [replace(found[_training(member)], member=member) for member in members]
    with Progress(what, sum(member.steps for unit in before + todo for member in unit), "steps") as progress:
        progress.note = f"{len(found)} of {len(first)} members remembered" if found else ""
        for group in (before, todo):
            for unit, outcomes in _trained(group, place, processes, progress, keep=group is before):
                remember(place.file(unit), outcomes)
                found.update({_training(outcome.member): outcome for outcome in outcomes})
                for outcome in outcomes if on_done else []:
                    on_done(outcome)  # type: ignore[misc]
    return [replace(found[_training(member)], member=member) for member in members]


def check(members: Sequence[Member], samples: Samples) -> None:
    """Build each network once, before any is trained. Raises ParamsError where that cannot be done."""
    import torch

    from darkroom.studies.batches import Feed, part
    from darkroom.studies.initial_weights import build

    different = {json.dumps([m.architecture, m.options, m.weights, m.image_size, m.blocks, m.scheme]): m for m in members}
    for member in different.values():
        sample = samples[member.on]
        few = part(replace(sample, held_images=sample.held_images[:2]), replace(member, images=2))
        try:
            build(member, few, Feed(few, torch.device("cpu")))
        except (RuntimeError, ValueError, TypeError, ArithmeticError) as error:
            what = f"{member.architecture} with {member.options} for images of {few.train_images.shape[2]} pixels"
            raise ParamsError(f"{what} cannot be built: {error}", "`darkroom models describe NAME` shows what it takes") from error


@dataclass(frozen=True)
class Place:
    """Where members are remembered, under what decides them."""

    samples: Samples
    accelerator: str
    folder: Path

    def file(self, unit: Sequence[Member], *after: str) -> Path:
        """Return the file of a unit's outcomes; `after` is what else decides them."""
        first = unit[0]
        digests = [self.samples[member.on].digest for member in (first, first.start) if member]
        keys = [_key(member) for member in unit]
        content = [code(), digests, _on_file(first), self.accelerator, _is_gpu(self.accelerator), keys, *after]
        return self.folder / f"{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]}.json"

    def weights(self, start: Member) -> Path:
        """Return the file of the weights that others begin with."""
        return self.file([start]).with_suffix(".safetensors")

    def images(self, name: str) -> Path:
        """Return the folder in which processes find a sample's images."""
        return self.folder / "data" / self.samples[name].digest[:24]


def begun(member: Member, place: Place, on_done: Callable[[Outcome], None]) -> Path | None:
    """Return the file of the weights that a member begins with, which are trained where they are not there; None for none."""
    if not member.start:
        return None
    file = place.weights(member.start)
    if not file.is_file():
        with Progress(f"training on {member.start.on}", member.start.steps, "steps") as progress:
            for unit, outcomes in _trained([[member.start]], place, 1, progress, keep=True):
                remember(place.file(unit), outcomes)
                on_done(outcomes[0])
    return file


def _on_file(member: Member) -> str:
    """Return what identifies the file that a member's weights come from."""
    if member.weights in ("", "imagenet"):
        return ""
    from darkroom.models import weight_files

    return weight_files.sha256(weight_files.find(Path(member.weights).expanduser(), member.architecture.rpartition("/")[2]))


def _trained(
    todo: list[list[Member]], place: Place, processes: int, progress: Progress, keep: bool
) -> Iterator[tuple[list[Member], list[Outcome]]]:
    """Yield each unit as soon as it is trained, by this process, or by several on a CPU; `keep` their weights too."""
    from darkroom.studies.trainer import train

    def begins(unit: list[Member]) -> dict[str, Any]:
        start = unit[0].start
        return {"started": place.weights(start) if start else None, "kept": place.weights(unit[0]) if keep else None}

    if min(processes, len(todo)) < 2 or _is_gpu(place.accelerator):
        for unit in todo:
            before = progress.done
            outcomes = train(unit, place.samples[unit[0].on], place.accelerator, progress.advance, **begins(unit))
            progress.advance(before + sum(m.steps for m in unit) - progress.done, _note(outcomes))
            yield unit, outcomes
        return
    for name in {unit[0].on for unit in todo}:
        place.samples[name].save(place.images(name))
    # new processes, not forked ones: those would inherit torch's threads in a state in which they cannot go on
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(todo)), context, initializer=_end_with_parent) as pool:
        waiting = {}
        for unit in sorted(todo, key=lambda unit: -sum(m.steps for m in unit)):
            sample = place.samples[unit[0].on]
            known = {"folder": place.images(unit[0].on), "classes": sample.classes, "digest": sample.digest}
            waiting[pool.submit(_work, unit, known, place.accelerator, begins(unit))] = unit
        try:
            for future in as_completed(waiting):
                outcomes = future.result()
                progress.advance(sum(m.steps for m in waiting[future]), _note(outcomes))
                yield waiting[future], outcomes
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _work(unit: list[Member], known: dict[str, Any], accelerator: str, begins: dict[str, Any]) -> list[Outcome]:
    from darkroom.studies.trainer import train

    return train(unit, Sample.load(**known), accelerator, **begins)


def _end_with_parent() -> None:
    """End this process when the one that started it is gone, however that ended."""
    parent: Any = multiprocessing.parent_process()

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _is_gpu(accelerator: str) -> bool:
    from darkroom.config.params import Compute
    from darkroom.training.devices import device_of

    return device_of(Compute(seed=0, threads=1, accelerator=accelerator, precision="32-true")).type != "cpu"  # type: ignore[arg-type]


def _note(outcomes: Sequence[Outcome]) -> str:
    last = outcomes[-1]
    return f"{last.member.panel} {last.member.label} {last.accuracy:.4f}"


def _training(member: Member) -> str:
    """Return all that decides what a member comes to."""
    return _key(replace(member, panel="", label=""))


def _key(member: Member) -> str:
    return json.dumps(asdict(member), sort_keys=True)


def remember(file: Path, outcomes: Sequence[Outcome]) -> None:
    """Write what members came to, with a checksum."""
    content = [asdict(outcome) for outcome in outcomes]
    atomic.write_json(file, {"outcomes": content, "sha256": _checksum(content)})


def recall(file: Path, unit: Sequence[Member]) -> list[Outcome] | None:
    """Return what was remembered of these members; None where there is nothing, or it is damaged."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["sha256"] != _checksum(content["outcomes"]):
            return None
        outcomes = [Outcome.from_dict(item) for item in content["outcomes"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return outcomes if [_key(o.member) for o in outcomes] == [_key(m) for m in unit] else None


def _checksum(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
