"""The growth of accuracy, measured, and new images ordered again, in a thread beside the page: no answer waits for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Condition, Thread
from typing import Any

from darkroom.core.errors import DarkroomError
from darkroom.labelling import growth
from darkroom.labelling.growth import Growth

EVERY = 10  # labels between two measurements, and two orders: `python -m benchmarks.labelling_session`
Check = Callable[[], None]
Reorder = Callable[[Growth, Sequence[str], Mapping[Path, str]], None]
Labels = Callable[[], tuple[Sequence[str], Mapping[Path, str]]]  # of the source's images, and of files of the inbox


class _EndedError(Exception):
    """The session has ended."""


class Meter:
    """Measures at the beginning, after every `EVERY` labels, and when nothing is left to label.

    `start` returns what measures, which may take long: it loads a model; it gets what that has to call meanwhile. `labels` returns
    the labels as they are. `reorder` gets both before each measurement, once `every` labels have been given: who labels waits for
    the next images, not for a figure. `close` ends the thread.
    """

    def __init__(self, start: Callable[[Check], tuple[Growth, Labels]], every: int = EVERY, reorder: Reorder | None = None) -> None:
        self._start, self._every, self._reorder = start, every, reorder
        self._changed = Condition()
        self._count, self._left, self._is_closed = 0, 1, False
        self._measured: int | None = None  # labels of the last measurement, while none runs
        self._shown: dict[str, Any] = {"revision": 0, "busy": True, "chart": "", "text": [], "problem": ""}
        self._thread = Thread(target=self._run, name="growth", daemon=True)
        self._thread.start()

    def notify(self, count: int, left: int) -> None:
        """Tell how many labels were given in this session, and how many images are left; return at once."""
        with self._changed:
            self._count, self._left = count, left
            if self._is_due():  # at once, so that whoever asks now asks again
                self._shown["busy"] = True
                self._changed.notify()

    def state(self) -> dict[str, Any]:
        """Return `chart` as SVG, sentences `text` or a `problem`, whether it is `busy`, and the `revision` of all these."""
        with self._changed:
            return dict(self._shown)

    def close(self) -> None:
        """End the thread; a fit that has begun is waited for."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()

    def _check(self) -> None:
        if self._is_closed:
            raise _EndedError

    def _show(self, **values: Any) -> None:
        self._shown = self._shown | values | {"revision": self._shown["revision"] + 1}

    def _run(self) -> None:
        try:
            measuring, labels = self._start(self._check)
            while True:
                with self._changed:
                    count, self._measured = self._count, None
                source_labels, new = labels()
                if self._reorder and count >= self._every:
                    self._reorder(measuring, source_labels, new)
                measuring.measure(count, source_labels, new)
                chart, text = growth.draw(measuring.measured), growth.describe(measuring.measured, len(source_labels))
                with self._changed:
                    self._measured = count
                    self._show(busy=self._is_due(), chart=chart, text=text)
                    self._changed.wait_for(lambda: self._is_closed or self._is_due())
                self._check()
        except _EndedError:
            pass
        except DarkroomError as error:
            self._end(f"{error.problem}; {error.remedy}")
        except (OSError, RuntimeError, ValueError, MemoryError) as error:  # labels are more than their measurement
            self._end(f"it could not be measured: {error}")

    def _end(self, problem: str) -> None:
        with self._changed:
            self._measured = None
            self._show(busy=False, problem=problem)

    def _is_due(self) -> bool:
        """Tell whether to measure again; never while one runs, or after an error."""
        if self._measured is None:
            return False
        return abs(self._count - self._measured) >= self._every or (self._left == 0 and self._count != self._measured)
