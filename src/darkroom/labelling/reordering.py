"""New images ordered again while people label, by a head of all labels so far; docs/labelling.md has what that is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from darkroom.labelling import active_learning, arrivals, queues
from darkroom.labelling.arrivals import Arrivals
from darkroom.labelling.growth import Growth
from darkroom.labelling.session import Session

MOST = 2_000  # images that are looked at again: those of which the first model is least certain


class Reordering:
    """The rest of a session's queue of new images is chosen anew from the inbox, with suggestions of the head.

    The images that a page may hold stay as they are. The order follows from the labels, whoever gave them.
    """

    def __init__(self, session: Session, incoming: Arrivals) -> None:
        self.session, self.folder = session, incoming.folder
        doubtful = np.argsort(active_learning.margins(incoming.probabilities), kind="stable")[:MOST]
        self.files = [incoming.folder / incoming.paths[i] for i in np.sort(doubtful)]

    def run(self, growing: Growth, labels: Sequence[str], new: Mapping[Path, str]) -> None:
        """Order again with the labels (N,) of the source's images and those of files of the inbox; with too few, do nothing."""
        queue = next(queue for queue in self.session.queues if queue.name == queues.INBOX)
        pinned = self.session.pinned_items(queue)
        if len(pinned) == len(queue.items):
            return
        shown = [self.folder / item.path for item in queue.items]
        predicted = growing.predict(list(dict.fromkeys([*self.files, *shown, *new])), labels, new)
        if predicted is None:
            return
        files = [self._name(file) for file in predicted.files]
        again = Arrivals(self.folder, tuple(predicted.classes), files, predicted.probabilities, predicted.embeddings, {})
        excluded = {item.path: "" for item in pinned} | {self._name(file): label for file, label in new.items()}
        self.session.reorder(queues.INBOX, arrivals.queue(again, excluded, len(queue.items)).items)

    def _name(self, file: Path) -> str:
        """Return the path of a file in the inbox; a table may have labels of other files."""
        return file.relative_to(self.folder).as_posix() if file.is_relative_to(self.folder) else str(file)
