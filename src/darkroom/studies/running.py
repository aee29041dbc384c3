"""Run the members of a study: what is remembered is not trained again, the rest side by side."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from darkroom import atomic
from darkroom.progress import Progress
from darkroom.studies.members import Member, Outcome, Sample

REMEMBERED = Path(".darkroom/studies")
MOST = 5  # members of a stack: more would gain little, and leave less to do side by side
DECIDING = ("members.py", "probing.py", "training.py", "vectorized.py")  # of this room: what a figure depends on


@cache
def code() -> str:
    """Return what identifies the code that trains: a change of it makes a study train again, one of a page does not."""
    here = Path(__file__).parent
    files = [here / name for name in DECIDING]
    files += sorted(path for room in ("models", "training") for path in (here.parent / room).rglob("*.py"))
    sha = hashlib.sha256(version("torch").encode())
    for file in files:
        sha.update(f"{file.relative_to(here.parent)}\n".encode() + file.read_bytes())
    return sha.hexdigest()


def units(members: Sequence[Member], sample: Sample, accelerator: str) -> list[list[Member]]:
    """Return the members that are trained together: those that are alike, where that is faster; the others alone."""
    import torch

    from darkroom.params import Compute
    from darkroom.studies.training import Feed, build
    from darkroom.studies.vectorized import is_worth_it
    from darkroom.training.devices import device_of

    device = device_of(Compute(seed=0, threads=1, accelerator=accelerator, precision="32-true"))  # type: ignore[arg-type]
    alike: dict[str, list[Member]] = {}
    for member in members:
        alike.setdefault(member.alike(), []).append(member)
    known: dict[str, bool] = {}
    made = []
    for group in alike.values():
        what = json.dumps([group[0].architecture, group[0].options], sort_keys=True)
        if what not in known:
            feed = Feed(sample, torch.device("cpu"))
            network = build(group[0], sample, feed)
            known[what] = len(group) > 1 and is_worth_it(network, feed.normalized(feed.x[:2]), device)
        size = MOST if known[what] else 1
        made += [group[i : i + size] for i in range(0, len(group), size)]
    return made


def run(
    members: Sequence[Member],
    sample: Sample,
    *,
    processes: int = 1,
    accelerator: str = "auto",
    remembered: Path = REMEMBERED,
    what: str = "study",
    on_done: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """Return what each member came to, in their order.

    Each unit of members is remembered as soon as it is trained, in a file that is named by their settings, the images and the code
    and holds a checksum: a study that was stopped goes on where it was. `on_done` is called for each member trained now.
    On a GPU one process trains all.
    """
    found: dict[str, Outcome] = {}
    todo = []
    every = units(members, sample, accelerator)
    for unit in every:
        kept = recall(_file(unit, sample, accelerator, remembered), unit)
        if kept is None:
            todo.append(unit)
        else:
            found.update({_key(outcome.member): outcome for outcome in kept})
    if not todo:
        return [found[_key(member)] for member in members]
    with Progress(what, sum(member.steps for unit in todo for member in unit), "steps") as progress:
        progress.note = f"{len(found)} of {len(members)} members remembered" if found else ""
        for unit, outcomes in _trained(todo, sample, processes, accelerator, remembered, progress):
            remember(_file(unit, sample, accelerator, remembered), outcomes)
            for outcome in outcomes:
                found[_key(outcome.member)] = outcome
                if on_done:
                    on_done(outcome)
    return [found[_key(member)] for member in members]


def _trained(
    todo: list[list[Member]], sample: Sample, processes: int, accelerator: str, remembered: Path, progress: Progress
) -> Iterator[tuple[list[Member], list[Outcome]]]:
    """Yield each unit as soon as it is trained, by this process, or by several on a CPU."""
    from darkroom.studies.training import train

    if min(processes, len(todo)) < 2 or _is_gpu(accelerator):
        for unit in todo:
            before = progress.done
            outcomes = train(unit, sample, accelerator, progress.advance)
            progress.advance(before + sum(m.steps for m in unit) - progress.done, _note(outcomes))
            yield unit, outcomes
        return
    folder = remembered / "data" / sample.digest[:24]
    sample.save(folder)
    work = partial(_work, folder=folder, classes=sample.classes, digest=sample.digest, accelerator=accelerator)
    # new processes, not forked ones: those would inherit torch's threads in a state in which they cannot go on
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(todo)), context, initializer=_end_with_parent) as pool:
        todo = sorted(todo, key=lambda unit: -sum(m.steps for m in unit))
        waiting = {pool.submit(work, unit): unit for unit in todo}
        try:
            for future in as_completed(waiting):
                outcomes = future.result()
                progress.advance(sum(m.steps for m in waiting[future]), _note(outcomes))
                yield waiting[future], outcomes
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _work(unit: list[Member], folder: Path, classes: int, digest: str, accelerator: str) -> list[Outcome]:
    from darkroom.studies.training import train

    return train(unit, Sample.load(folder, classes, digest), accelerator)


def _end_with_parent() -> None:
    """End this process when the one that started it is gone, however that ended."""
    parent: Any = multiprocessing.parent_process()

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _is_gpu(accelerator: str) -> bool:
    from darkroom.params import Compute
    from darkroom.training.devices import device_of

    return device_of(Compute(seed=0, threads=1, accelerator=accelerator, precision="32-true")).type != "cpu"  # type: ignore[arg-type]


def _note(outcomes: Sequence[Outcome]) -> str:
    last = outcomes[-1]
    return f"{last.member.panel} {last.member.label} {last.accuracy:.4f}"


def _key(member: Member) -> str:
    return json.dumps(asdict(member), sort_keys=True)


def _file(unit: Sequence[Member], sample: Sample, accelerator: str, folder: Path) -> Path:
    content = [code(), sample.digest, accelerator, _is_gpu(accelerator), [_key(member) for member in unit]]
    return folder / f"{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]}.json"


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
