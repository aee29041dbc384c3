"""The report opened in a browser."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from PIL import Image

from tests.evaluation.test_metrics import page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed: apt-get install chromium")
@pytest.mark.parametrize("dark", [False, True])
def test_the_report_renders(tmp_path, dark):
    """Chromium shows the page without a console message, light and dark with opposite brightness."""
    (tmp_path / "report.html").write_text(page())
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}", "--window-size=900,900",
        *(["--force-dark-mode", "--blink-settings=preferredColorScheme=0"] if dark else []),
        "--enable-logging=stderr", f"--screenshot={tmp_path / 'page.png'}", f"file://{tmp_path / 'report.html'}",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (tmp_path / "page.png").exists(), done.stderr[-2000:]
    assert "CONSOLE" not in done.stderr
    corner = Image.open(tmp_path / "page.png").convert("L").getpixel((3, 3))
    assert corner < 60 if dark else corner > 200
