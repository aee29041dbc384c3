"""Names of classes and files are the same in every locale."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT

# Python then reads and writes text as ASCII
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.fixture
def workspace(tmp_path):
    """Return a workspace whose classes, files and label fixes have names that are not ASCII, one of them not
    UTF-8.
    """
    rng = np.random.default_rng(0)
    for label in ("ärger", "日本"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for i in range(10):
            Image.fromarray(rng.integers(0, 256, (20, 24, 3), np.uint8)).save(tmp_path / "photos" / label / f"é{i}.png")
    (tmp_path / "photos" / "ärger" / "kaputt–ü.png").write_bytes(b"x")
    os.rename(tmp_path / "photos/ärger/é0.png", os.fsencode(tmp_path / "photos/ärger") + b"/\xff.png")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/label_fixes.csv").write_text("image,label\närger/é1.png,日本\n", encoding="utf-8")
    text = (ROOT / "params.yaml").read_text(encoding="utf-8").replace("source: data/raw/digits", "source: photos")
    text = text.replace("split_by: hash", "split_by: stratified").replace("max_quarantined: 0.05", "max_quarantined: 0.5")
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    return tmp_path


@pytest.mark.slow
def test_outputs_do_not_depend_on_the_locale(workspace):
    """Under LC_ALL=C, with Python's UTF-8 mode off, ingest writes the bytes that it writes in a UTF-8 locale."""
    outputs = []
    for name, environment in (("utf8", {"LC_ALL": "C.UTF-8"}), ("ascii", C_LOCALE)):
        command = [sys.executable, "-m", "darkroom", "ingest", "--out", f"{name}/ingested", "--report", f"{name}/data.html"]
        done = subprocess.run(
            [*command, "--fixes", "data/label_fixes.csv"], cwd=workspace, capture_output=True,
            env=os.environ | environment | {"DARKROOM_TRACKING": "off"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        folder = workspace / name
        outputs.append({path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()})
    assert outputs[0] == outputs[1]
    assert (workspace / "ascii/ingested/classes.json").read_text(encoding="utf-8").split('"')[1::2] == ["ärger", "日本"]
    assert "ärger/kaputt–ü.png,not_an_image" in (workspace / "ascii/ingested/quarantine.csv").read_text(encoding="utf-8")
