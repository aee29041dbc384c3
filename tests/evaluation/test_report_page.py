"""The report opened in a browser."""

from __future__ import annotations

import pytest

from tests.conftest import screenshot
from tests.evaluation.test_metrics import page


@pytest.mark.parametrize("dark", [False, True])
def test_the_report_renders(tmp_path, dark):
    """Chromium shows the page without a console message, light and dark with opposite brightness."""
    (tmp_path / "report.html").write_text(page())
    shown, messages = screenshot(tmp_path / "report.html", dark)
    assert "CONSOLE" not in messages
    corner = shown.convert("L").getpixel((3, 3))
    assert corner < 60 if dark else corner > 200
