"""What a machine lacks at a moment, told apart from what is wrong with a file.

A reader that gets whatever error a damaged file gives asks here first: too little memory, a full disk or too many open
files say nothing about the file, and end the run with exit code 75 instead of changing what is taken for data.
"""

from __future__ import annotations

import errno

from darkroom.core import shortage
from darkroom.core.errors import DarkroomError, WorkspaceError

OPEN_FILES = (errno.EMFILE, errno.ENFILE)
RAISE_LIMIT = "end other programs, or raise the limit of open files: `ulimit -n 4096`; then run the command again"


def explain(error: BaseException) -> DarkroomError | None:
    """Return the sentence about what the machine lacks where that is the cause of an error, else None."""
    cause: BaseException | None = None if isinstance(error, DarkroomError) else error
    while cause is not None:
        if getattr(cause, "errno", None) in OPEN_FILES:
            return WorkspaceError(f"too many files are open: {cause}", RAISE_LIMIT, retryable=True)
        cause = cause.__cause__ or cause.__context__
    return shortage.explain(error)


def check(error: BaseException) -> None:
    """Raise the sentence about what the machine lacks where that is the cause of an error."""
    if lack := explain(error):
        raise lack from error
