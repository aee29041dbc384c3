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
        ("postgresql://u:pa/ss@host/x and http://u:pa/ss@host", "postgresql://***@host/x and http://***@host"),
        ("postgresql://u:12/ss@host", "postgresql://***@host"),
        ("a at 'http://h:5000/a', 'b@c', sqlite:////a@b/mlflow.db", "a at 'http://h:5000/a', 'b@c', sqlite:////a@b/mlflow.db"),
        ("mssql://?odbc_connect=UID%3Dme%3BPWD%3Dsecret%3BDB%3Dx", "mssql://?odbc_connect=UID%3Dme%3BPWD%3D***%3BDB%3Dx"),
        ("Driver=x;Pwd=secret;Database=y", "Driver=x;Pwd=***;Database=y"),
        ("{'Authorization': 'Bearer eyJhb.Gci-_x'}", "{'Authorization': 'Bearer ***'}"),
        ("Authorization: Basic bWU6cGFzcw==", "Authorization: Basic ***"),
        ("s3://b/x?access_key=AB12&region=eu", "s3://b/x?access_key=***&region=eu"),
        ("aws_secret_access_key=wJalr/XUt AccountKey=ab==", "aws_secret_access_key=*** AccountKey=***"),
        ("https://h/c?sv=1&sig=ab%2Fc%3D&se=2", "https://h/c?sv=1&sig=***&se=2"),
        (
            "https://h/o?X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2Fa&X-Amz-Signature=ab&X-Amz-Expires=60",
            "https://h/o?X-Amz-Credential=***&X-Amz-Signature=***&X-Amz-Expires=60",
        ),
        ("https://h/?token=ab&access_token=cd&x=1", "https://h/?token=***&access_token=***&x=1"),
        ("{'password': 'a b', \"token\": \"c\"}", "{'password': '***', \"token\": \"***\"}"),
        ("s3://bucket/AKIAIOSFODNN7EXAMPLE/x ghp_0123456789abcdefghij", "s3://bucket/***/x ***"),
        ("design=bold, the bearer of 4 tokens: 3", "design=bold, the bearer of 4 tokens: 3"),
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
