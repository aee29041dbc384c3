"""What errors say: no password of an address reaches a terminal, a log or a record."""

from __future__ import annotations

import pytest

from darkroom.core import errors
from darkroom.core.command_line import report


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("MLflow at http://me:pa:ss@w@host:5000/x cannot", "MLflow at http://***@host:5000/x cannot"),
        ("postgresql+psycopg2://me:pass@db/mlflow?sslmode=on", "postgresql+psycopg2://***@db/mlflow?sslmode=on"),
        ("https://token@host", "https://***@host"),
        ("mysql://db/x?user=me&password=pass&a=b", "mysql://db/x?user=me&password=***&a=b"),
        ("see http://host:5000/a@b and me@example.org", "see http://host:5000/a@b and me@example.org"),
    ],
)
def test_a_password_in_an_address_is_masked(text, expected, capsys):
    """Errors mask what an address has before its host, and values that are called password, token and the like."""
    error = errors.WorkspaceError(text, text)
    assert str(error) == f"{expected}\n  remedy: {expected}"
    report(OSError(text))
    assert capsys.readouterr().err.startswith(f"error: {expected}\n")


def test_an_address_to_open_has_no_login():
    """A link works for whoever logs in, and does not carry the password of whoever made it."""
    assert errors.without_login("https://me:pass@host/path") == "https://host/path"
