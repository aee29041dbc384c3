"""Errors with a remedy, and the exit codes of commands.

A `DarkroomError` reaches the terminal as one message without a traceback. The exit code is 2, or 75 where the same
command may work later.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from darkroom.core.lazy import lazy_imports

with lazy_imports():
    import difflib

# `user:password@` of an address. A password may have a slash: it goes on to the last `@`, but `host:5000/a@b` has none
_LOGIN = re.compile(
    r"(\b(?:postgres|mysql|mariadb|mssql|oracle|redis|mongodb)[\w+]*://[^\s'\"]{0,500}"
    r"|://[^\s/:@'\"]{0,500}:(?!\d+/)[^\s'\"]{0,500}|://[^\s/]*)@",
    re.IGNORECASE,
)
_NAMES = (
    r"(?:pass(?:word|wd|phrase)|pwd|token|secret|credential|signature|(?<![a-z])sig"
    r"|(?:api|access|account|secret|shared)[_-]?key(?:[_-]?id)?)"
)
_VALUES = (
    (re.compile(rf"({_NAMES}(?:=|%3D))(?:(?!%3B|%26)[^&;\s'\"])+", re.IGNORECASE), r"\1***"),
    (re.compile(rf"({_NAMES}['\"]?\s*[:=]\s*(['\"])).+?(?=\2)", re.IGNORECASE), r"\1***"),
    (re.compile(r"(\bbearer\s+)[\w.~+/=-]{6,}", re.IGNORECASE), r"\1***"),
    (re.compile(r"(\bauthorization['\"]?\s*[:=]\s*['\"]?basic\s+)[\w+/=-]+", re.IGNORECASE), r"\1***"),
    # keys that are known by their form: of AWS, GitHub and the Hugging Face Hub
    (re.compile(r"\b(?:(?:AKIA|ASIA)[A-Z0-9]{16}|(?:gh[pousr]|hf)_\w{20,})\b"), "***"),
)

MISTAKE = 2
DRIFTED = 3  # of `darkroom monitor`: a result, not an error
EX_TEMPFAIL = 75  # of sysexits.h: retry later
HALF_CHARACTER = "a text has half a character, \\ud800 to \\udfff"  # which pydantic does not take
EXIT_CODE_FILE = "DARKROOM_EXIT_CODE_FILE"  # the variable of the file in which a stage tells `darkroom repro` its exit code


class DarkroomError(Exception):
    """A problem in one sentence, and its remedy; `retryable` where it may go away by itself, as a failure of the network does.

    `setting` is the key of params.yaml at fault, where there is one. Both are masked: they reach terminals, logs and records.
    """

    setting: str = ""

    def __init__(self, problem: str, remedy: str, retryable: bool = False) -> None:
        super().__init__(masked(problem))
        self.problem = masked(problem)
        self.remedy = masked(remedy)
        self.retryable = retryable

    def __reduce__(self) -> tuple[object, ...]:  # pickling between processes passes `args`, which lacks the remedy
        return type(self), (self.problem, self.remedy, self.retryable)

    @property
    def code(self) -> int:
        """Return the exit code."""
        return EX_TEMPFAIL if self.retryable else MISTAKE

    def __str__(self) -> str:
        return f"{self.problem}\n  remedy: {self.remedy}"


class ParamsError(DarkroomError):
    """A value in params.yaml, a recipe or an option cannot be used."""


class MissingLibraryError(ParamsError):
    """A network is of a library that is not installed."""


class OwnCodeError(MissingLibraryError):
    """A network of the project's own has no file, another one than a checkpoint was trained with, or one that does not work."""


class SourceError(DarkroomError):
    """A folder of images cannot become a data set."""


class WeightsError(DarkroomError):
    """Weights are missing, or do not fit the network."""


class WorkspaceError(DarkroomError):
    """An output of an earlier stage is missing, or the command runs in the wrong folder."""


def masked(text: str) -> str:
    """Return a text whose addresses have no user, password or token: `http://***@host`, nor other secrets of a known form."""
    text = _LOGIN.sub(lambda match: f"{_scheme(match[1])}***@", text)
    for pattern, replacement in _VALUES:
        text = pattern.sub(replacement, text)
    return text


def _scheme(address: str) -> str:
    """Return an address up to where its user may stand."""
    return address.partition("://")[0] + "://"


def without_login(address: str) -> str:
    """Return an address to open, without the user and password in it."""
    return _LOGIN.sub(lambda match: _scheme(match[1]), address)


def printable(text: str) -> str:
    """Return a text with unprintable characters escaped, so that it cannot move the cursor."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def nearest(word: str, words: Iterable[str]) -> str:
    """Return ` (did you mean "x"?)` for the closest of the words, or nothing where none is close."""
    close = difflib.get_close_matches(word, list(words), n=1, cutoff=0.5)
    return f' (did you mean "{close[0]}"?)' if close else ""


def nearest_file(path: Path) -> str:
    """Return ` (did you mean "photos"?)` for the closest name in the folder of a path that does not exist, or nothing."""
    try:
        return nearest(path.name, [item.name for item in path.parent.iterdir()])
    except OSError:
        return ""
