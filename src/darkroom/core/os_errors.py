"""Remedies for errors of the operating system and of the network."""

from __future__ import annotations

import errno
import http.client
import urllib.error

from darkroom.core.errors import EX_TEMPFAIL, MISTAKE

REMEDIES = {
    errno.ENOENT: "check the name; files in data/, models/ and reports/ are written by `dvc repro`",
    errno.EACCES: "change its permissions, or run the command as the user who owns it",
    errno.EPERM: "change its permissions, or run the command as the user who owns it",
    errno.EISDIR: "name a file, not a folder",
    errno.ENOTDIR: "name a path whose parents are folders",
    errno.EEXIST: "remove or rename it, or name another path",
    errno.ENOTEMPTY: "remove what the folder holds, or name another folder",
    errno.EROFS: "the file system is read-only: name a folder elsewhere, or mount it for writing",
    errno.ENAMETOOLONG: "use a shorter name",
    errno.EMFILE: "raise the limit of open files: `ulimit -n 4096`",
    errno.EADDRINUSE: "choose another port, or end the process that uses this one",
}


def remedy_of(error: BaseException) -> str:
    """Return the remedy of an error of the operating system."""
    if is_retryable(error):
        return "check the network or the server, then run the command again"
    return REMEDIES.get(getattr(error, "errno", None) or 0, "`--debug` shows where it happened")


def exit_code(error: BaseException) -> int:
    """Return the exit code for an error: 75 where the same may work later, else 2."""
    return EX_TEMPFAIL if is_retryable(error) else MISTAKE


def is_retryable(error: BaseException | None) -> bool:
    """Tell whether an error, or its cause, is a temporary failure of the network or of a server."""
    while error is not None:
        if isinstance(error, urllib.error.HTTPError):
            return error.code >= 500 or error.code in (408, 429)
        if isinstance(error, (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)):
            return True
        error = error.__cause__ or error.__context__
    return False
