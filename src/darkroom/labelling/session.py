"""A session of labelling: a person, the queues, and the files to which each decision goes at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import RLock
from typing import Any

from darkroom.core import locks
from darkroom.core.errors import SourceError, WorkspaceError, nearest, printable
from darkroom.data import class_names, label_fixes
from darkroom.labelling import decisions, inbox
from darkroom.labelling.decisions import Decision
from darkroom.labelling.queues import SOURCE, Item, Queue

LOCK = Path(".darkroom/labels.lock")
WAIT = 30.0  # seconds for another person's decision to be written
AHEAD = 3  # images that a page holds: that which is shown, and two after it


class Session:
    """What a person decides goes to data/label_fixes.csv or the inbox's labels.csv, and to the log; nothing else is changed.

    `classes` are those of the source, `fixes` the file of corrections, `log` that of decisions. Sessions of other people may
    write the same files. `decisions` are those of this session that stand. `orders` counts how often a queue was ordered again,
    and `items` has also the images that have left one.
    """

    def __init__(self, queues: Sequence[Queue], classes: Sequence[str], fixes: Path, log: Path, name: str) -> None:
        self.queues, self.fixes, self.log, self.name = list(queues), fixes, log, name
        self.source_classes = sorted(classes)
        self.items = {item.id: item for queue in queues for item in queue.items}
        self.decisions: list[Decision] = []
        self.orders = 0
        self._reached: Counter[str] = Counter()  # by queue: how far people have come, in images
        self.lock = RLock()

    @property
    def classes(self) -> list[str]:
        """Return the classes of the source, and then those that people gave to images of the inbox."""
        source_classes = set(self.source_classes)
        return [*self.source_classes, *sorted({item.label for item in self._standing() if item.label} - source_classes)]

    def _standing(self) -> list[Decision]:
        return decisions.standing(decisions.read(self.log))

    def label_of(self) -> dict[str, str]:
        """Return the label that a person gave each item, by its id; items that nobody decided are not in it."""
        labels = {(item.folder, item.image): item.label for item in self._standing() if item.label}
        return {id: labels[item.folder, item.path] for id, item in self.items.items() if (item.folder, item.path) in labels}

    def decide(self, queue: str, id: str, label: str) -> Decision:
        """Give an item a label, and return when that is on the disk. Raises SourceError where it cannot have this label."""
        item = self._item(id)
        with self._exclusively():
            name = self._check(item, label)
            if item.folder == SOURCE:
                fixes = label_fixes.read(self.fixes)
                line = next((fixes[line] for line in label_fixes.lines_of(fixes, item.rows)), "")
                label_fixes.set_label(self.fixes, item.name, item.rows, name)
            else:
                labels = inbox.read(Path(item.folder))
                line = labels.get(item.path, "")
                inbox.write(Path(item.folder), labels | {item.path: name})
            return self._record(item, queue, name, line)

    def skip(self, queue: str, id: str) -> Decision:
        """Record that a person could not say; the item comes again in the next session."""
        with self._exclusively():
            return self._record(self._item(id), queue, "", "")

    def undo(self) -> Decision | None:
        """Take back the last decision of this session, in the files too; return it, None where there is none."""
        with self._exclusively():
            if not self.decisions:
                return None
            last = self.decisions[-1]
            if last.label:
                self._restore(self._item(self.id_of(last)), last)
            decisions.append(self.log, Decision(last.image, last.folder, last.queue, "", self.name, undoes=last.id))
            return self.decisions.pop()

    def _restore(self, item: Item, last: Decision) -> None:
        if item.folder != SOURCE:
            labels = inbox.read(Path(item.folder))
            labels.pop(item.path, None)
            inbox.write(Path(item.folder), labels | ({item.path: last.line} if last.line else {}))
        elif last.line:
            label_fixes.set_label(self.fixes, item.name, item.rows, last.line)
        elif label_fixes.lines_of(label_fixes.read(self.fixes), item.rows):
            label_fixes.remove(self.fixes, item.name, item.rows)

    def _record(self, item: Item, queue: str, label: str, line: str) -> Decision:
        decision = Decision(item.path, item.folder, queue, label, self.name, line, item.suggested)
        decisions.append(self.log, decision)
        self.decisions.append(decision)
        shown = next((other.items for other in self.queues if other.name == queue), ())
        place = next((i for i, other in enumerate(shown) if other.id == item.id), -1)
        self._reached[queue] = max(self._reached[queue], place + 1)
        return decision

    def pinned_items(self, queue: Queue) -> Sequence[Item]:
        """Return the first images of a queue: those that people have come to in this session, taken back or not, then as many
        without a label as a page may hold."""
        labels, free = self.label_of(), 0
        for end in range(self._reached[queue.name], len(queue.items)):
            if free == AHEAD:
                return queue.items[:end]
            free += queue.items[end].id not in labels
        return queue.items

    def reorder(self, name: str, items: Sequence[Item]) -> None:
        """Let these images without labels follow those of a queue that are pinned; it has as many as before, or fewer."""
        with self.lock:
            place, queue = next((i, queue) for i, queue in enumerate(self.queues) if queue.name == name)
            pinned = list(self.pinned_items(queue))
            pinned_ids = {item.id for item in pinned}
            # another dictionary, since requests may go through this one
            self.items = self.items | {item.id: item for item in items if item.id not in pinned_ids}
            labels = self.label_of()  # others may have labelled some meanwhile
            new = [item for item in items if item.id not in pinned_ids and item.id not in labels]
            self.queues[place] = replace(queue, items=[*pinned, *new][: len(queue.items)])
            self.orders += 1

    def _item(self, id: str) -> Item:
        if id not in self.items:
            raise SourceError("there is no such image in this session", "load the page again")
        return self.items[id]

    def id_of(self, decision: Decision) -> str:
        """Return the id of the item that a decision of this session is about."""
        return next(id for id, item in self.items.items() if (item.folder, item.path) == (decision.folder, decision.image))

    def _check(self, item: Item, label: str) -> str:
        """Return the name of a class that an item may have."""
        if item.folder != SOURCE:
            return inbox.check_class(label)
        name = class_names.normalise(label)
        if name not in self.source_classes:
            raise SourceError(
                f'the source has no class "{printable(label)}"{nearest(name, self.source_classes)}',
                "a label of its images is one of its classes; a new class begins as a folder of its own, or in an inbox",
            )
        return name

    @contextmanager
    def _exclusively(self) -> Iterator[None]:
        """Let no other thread and no other session write meanwhile."""
        with self.lock, locks.hold(LOCK, wait=WAIT) as acquired:
            if not acquired:
                raise WorkspaceError(f"{self.log} is taken by another process", "try again", retryable=True)
            yield

    def state(self) -> dict[str, Any]:
        """Return what the page shows beside an image: counts by queue and class, the classes, and this session's decisions."""
        labels = self.label_of()
        own = [item for item in self.decisions if item.label]
        checked = [item for item in own if item.suggested]
        return {
            "queues": [
                {
                    "name": queue.name, "title": queue.title, "note": queue.note, "images": len(queue.items),
                    "left": sum(item.id not in labels for item in queue.items),
                }
                for queue in self.queues
            ],
            "classes": self.classes, "source_classes": len(self.source_classes),
            "by_class": dict(Counter(labels.values()).most_common()),
            "labelled": len(labels), "left": len({item.id for queue in self.queues for item in queue.items} - labels.keys()),
            "own": len(own), "orders": self.orders,
            "agreed": sum(item.label == item.suggested for item in checked), "suggested": len(checked),
            "can_undo": bool(self.decisions),
        }  # fmt: skip

    def entries(self, queue: str) -> list[dict[str, str]]:
        """Return the items of a queue as the page shows them, with the label that a person gave them."""
        labels = self.label_of()
        chosen = next((item.items for item in self.queues if item.name == queue), ())
        return [
            {
                "id": item.id, "path": item.path, "label": item.label, "split": item.split, "suggested": item.suggested,
                "why": item.why, "given": labels.get(item.id, ""), "is_new": "" if item.folder == SOURCE else "yes",
            }
            for item in chosen
        ]  # fmt: skip


def without_decided(queue: Queue, log: Path) -> Queue:
    """Return a queue without the images that people have decided before."""
    done = {(item.folder, item.image) for item in decisions.standing(decisions.read(log)) if item.label}
    return replace(queue, items=[item for item in queue.items if (item.folder, item.path) not in done])
