"""Every mistake that a user can make, each with its remedy.

A `DarkroomError` reaches the terminal as one message without a traceback, and exit code 2, or 75 where the same may work later.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MISTAKE = 2
EX_TEMPFAIL = 75  # EX_TEMPFAIL of sysexits.h


class DarkroomError(Exception):
    """What went wrong, in one sentence, and what to do about it."""

    def __init__(self, problem: str, remedy: str, retryable: bool = False) -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy
        self.retryable = retryable  # by itself, as the network or a server does

    def __reduce__(self) -> tuple[object, ...]:  # so that it comes whole from another process
        return type(self), (self.problem, self.remedy, self.retryable)

    @property
    def code(self) -> int:
        """Return the exit code."""
        return EX_TEMPFAIL if self.retryable else MISTAKE

    def __str__(self) -> str:
        return f"{self.problem}\n  remedy: {self.remedy}"


class ParamsError(DarkroomError):
    """A value in params.yaml, a recipe or `--set` that Darkroom cannot use."""


class SourceError(DarkroomError):
    """A folder of images that cannot become a data set."""


class WeightsError(DarkroomError):
    """Weights that are not there, or do not fit the network."""


class WorkspaceError(DarkroomError):
    """Something that an earlier stage should have written is missing, or the command runs in the wrong folder."""


def is_retryable(error: BaseException | None) -> bool:
    """Tell whether an error, or what caused it, is one of the network or of a server that may work later."""
    import http.client
    import urllib.error

    while error is not None:
        if isinstance(error, urllib.error.HTTPError):
            return error.code >= 500 or error.code in (408, 429)
        if isinstance(error, (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)):
            return True
        error = error.__cause__ or error.__context__
    return False


def printable(text: str) -> str:
    """Return a text that moves no cursor: what cannot be shown is written as an escape."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ` (did you mean "x"?)` for the closest known word, or nothing where none is close."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f' (did you mean "{close[0]}"?)' if close else ""
