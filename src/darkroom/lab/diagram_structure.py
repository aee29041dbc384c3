"""The structure of a diagram: boxes in series and in parallel.

Where an output has several
users, the branches up to the point where all meet again stand side by side; a branch without a box is a skip
connection. Branches that cross, as in a DenseNet, are no series and parallels: they are a `Tangle`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from darkroom.lab.diagram_boxes import Box
from darkroom.lab.network_graph import Shape

MAX_ARCS = 12  # of crossing branches; more, as in a DenseNet, are told in words


@dataclass(frozen=True)
class Parallel:
    """Branches from one output; an empty branch is a skip connection. `merge` is where they meet, if it is theirs alone."""

    branches: tuple[Series, ...]
    merge: Box | None
    source: Shape  # of the output that they share

    @property
    def signature(self) -> object:
        return tuple(branch.signature for branch in self.branches), self.merge and self.merge.signature


@dataclass(frozen=True)
class Frame:
    """A block: its module's names, the class, what is in it, and how many like it follow each other."""

    names: tuple[str, ...]
    label: str
    body: Series

    @property
    def signature(self) -> object:
        return self.label, self.body.signature


@dataclass(frozen=True)
class Tangle:
    """Boxes in the order of execution whose connections cross; `edges` are those that skip a box, if they are few."""

    boxes: tuple[Box, ...]
    edges: tuple[tuple[int, int], ...]  # places in `boxes`

    @property
    def signature(self) -> object:
        return tuple(box.signature for box in self.boxes), self.edges


@dataclass(frozen=True)
class Series:
    """Items one after another."""

    items: tuple[Box | Parallel | Frame | Tangle, ...] = ()

    @cached_property
    def signature(self) -> object:
        return tuple(item.signature for item in self.items)

    @cached_property
    def boxes(self) -> tuple[Box, ...]:
        return tuple(box for item in self.items for box in boxes_of(item))


Item = Box | Parallel | Frame | Tangle


def boxes_of(item: Item) -> tuple[Box, ...]:
    """Return all boxes in an item."""
    if isinstance(item, Box):
        return (item,)
    if isinstance(item, Tangle):
        return item.boxes
    if isinstance(item, Frame):
        return item.body.boxes
    return (*(box for branch in item.branches for box in branch.boxes), *([item.merge] if item.merge else []))


def parse(boxes: Sequence[Box]) -> Series:
    """Return the structure of a network from its boxes in the order of execution, the first of which is the input."""
    return Series(tuple(_Parser(boxes).parse()))


class _Parser:
    """Decomposes the graph of boxes into series and parallels."""

    def __init__(self, boxes: Sequence[Box]) -> None:
        last = boxes[-1].number
        reaching = {last}  # boxes that the output depends on
        for box in reversed(boxes):
            if box.number in reaching:
                reaching |= {edge.source for edge in box.inputs}
        self.boxes = {box.number: box for box in boxes if box.number in reaching}
        self.users: dict[int, list[int]] = {number: [] for number in self.boxes}
        for box in self.boxes.values():
            for source in {edge.source for edge in box.inputs}:
                self.users[source].append(box.number)
        self.last = last

    def parse(self) -> list[Item]:
        middle = self._between(0, self.last, set(self.boxes) - {0, self.last}, self.users[0])
        if middle and isinstance(middle[-1], Parallel) and middle[-1].merge is None:
            return [self.boxes[0], *middle[:-1], replace(middle[-1], merge=self.boxes[self.last])]
        return [self.boxes[0], *middle, self.boxes[self.last]]

    def _between(self, source: int, sink: int, inner: set[int], users: Sequence[int]) -> list[Item]:
        """Return the items strictly between two boxes, which `inner` are, on the ways by `users` of the source.

        A Parallel at the end has no merge of its own: its branches meet at the sink.
        """
        items: list[Item] = []
        while True:
            meeting = self._meeting(source, sink, inner, users)
            region: set[int] = set()
            if list(users) != [meeting]:
                region = self._before(users, meeting)
                branches, is_direct = self._branches(region), meeting in users
                if len(branches) + is_direct == 1:
                    items.append(self._tangle(region))
                    self.boxes[meeting] = _with_input_count(self.boxes[meeting])
                else:
                    parts = [self._between(source, meeting, part, [user for user in users if user in part]) for part in branches]
                    merge = None if meeting == sink else self.boxes[meeting]
                    series = (*(Series(tuple(part)) for part in parts), *([Series()] * is_direct))
                    items.append(Parallel(series, merge, self.boxes[source].output))
            if meeting == sink:
                return items
            if not (items and isinstance(items[-1], Parallel) and items[-1].merge is self.boxes[meeting]):
                items.append(self.boxes[meeting])
            inner, source, users = inner - region - {meeting}, meeting, self.users[meeting]

    def _before(self, users: Sequence[int], meeting: int) -> set[int]:
        """Return the boxes on the ways from these users to the meeting, without it."""
        region: set[int] = set()
        stack = list(users)
        while stack:
            number = stack.pop()
            if number < meeting and number not in region:
                region.add(number)
                stack += self.users[number]
        return region

    def _meeting(self, source: int, sink: int, inner: set[int], users: Sequence[int]) -> int:
        """Return the first box that all ways from the source to the sink pass: its immediate post-dominator."""
        common: dict[int, set[int]] = {sink: {sink}}
        for number in sorted(inner, reverse=True):
            after = [user for user in self.users[number] if user in common]
            common[number] = set.intersection(*(common[user] for user in after)) | {number}
        return min(set.intersection(*(common[user] for user in users)))

    def _branches(self, region: set[int]) -> list[set[int]]:
        """Return the connected parts of a region, in the order of execution."""
        left, parts = set(region), []
        while left:
            part, stack = set(), [min(left)]
            while stack:
                number = stack.pop()
                if number in left:
                    left.discard(number)
                    part.add(number)
                    stack += [*self.users[number], *(edge.source for edge in self.boxes[number].inputs)]
            parts.append(part)
        return parts

    def _tangle(self, region: set[int]) -> Tangle:
        boxes = [self.boxes[number] for number in sorted(region)]
        place = {box.number: i for i, box in enumerate(boxes)}
        edges = [(place[edge.source], i) for i, box in enumerate(boxes) for edge in box.inputs if edge.source in place]
        skipping = tuple(edge for edge in edges if edge[1] - edge[0] > 1)
        if len(skipping) <= MAX_ARCS:
            return Tangle(tuple(boxes), skipping)
        return Tangle(tuple(map(_with_input_count, boxes)), ())


def _with_input_count(box: Box) -> Box:
    """Return a box that says how many inputs it has, where they are more than one and no line is drawn."""
    return replace(box, details=(*box.details, f"of {len(box.inputs)} outputs above")) if len(box.inputs) > 1 else box
