"""Errors of the network and their exit codes."""

from __future__ import annotations

import http.client
import urllib.error
from email.message import Message

import pytest

from darkroom.core.command_line import report
from darkroom.core.errors import EX_TEMPFAIL, MISTAKE, WeightsError
from darkroom.core.os_errors import is_retryable


@pytest.mark.parametrize(("error", "retryable"), [
    (ConnectionResetError(), True), (TimeoutError(), True), (urllib.error.URLError("no route"), True),
    (http.client.IncompleteRead(b""), True), (urllib.error.HTTPError("", 503, "", Message(), None), True),
    (urllib.error.HTTPError("", 404, "", Message(), None), False), (ValueError("hash"), False), (None, False),
])  # fmt: skip
def test_which_errors_are_retryable(error, retryable):
    """Failures of the network and of a server are retryable, missing files and mistakes are not; causes
    count."""
    assert is_retryable(error) == retryable
    wrapper = RuntimeError("cannot be fetched")
    wrapper.__cause__ = error
    assert is_retryable(wrapper) == retryable


@pytest.mark.parametrize(("retryable", "code"), [(True, EX_TEMPFAIL), (False, MISTAKE)])
def test_the_exit_code_tells_whether_an_error_is_retryable(retryable, code, capsys):
    """A command ends with 75 where the same command may work later, with 2 otherwise."""
    assert report(WeightsError("a", "b", retryable)) == code
    assert capsys.readouterr().err == "error: a\n  remedy: b\n"
