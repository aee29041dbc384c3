"""The stage `evaluate`: numbers of images, and the origin of a report."""

from __future__ import annotations

import hashlib
import subprocess

from darkroom.data.manifest import Row
from darkroom.stages import evaluate


def test_files_are_counted_by_class_and_split():
    """Accepted files count by class and split, quarantined ones apart."""
    rows = [Row(label=label, split=split) for label, split in (("a", "train"), ("a", "test"), ("b", "test"))]
    rows.append(Row(label="b", status="quarantined"))
    counts = evaluate._counts(rows)
    assert (counts["files"], counts["quarantined"]) == (4, 1)
    assert (counts["train"], counts["val"], counts["test"]) == (1, 0, 2)
    assert counts["classes"] == {"a": {"train": 1, "val": 0, "test": 1}, "b": {"train": 0, "val": 0, "test": 1}}


def test_the_origin_tells_whether_changes_are_committed(tmp_path, monkeypatch):
    """A clean tree is named by its commit; changes of the project that are not committed are named too."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("a: 1")
    (tmp_path / "manifest.parquet").write_bytes(b"manifest")
    for arguments in (["init", "-q"], ["add", "params.yaml"], ["commit", "-qm", "run"]):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], check=True)
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout[:12]
    origin = evaluate._origin(tmp_path)
    assert origin["commit"] == head
    assert "not committed" not in origin
    assert hashlib.md5(b"manifest").hexdigest() in origin["data version"]
    (tmp_path / "params.yaml").write_text("a: 2")
    assert "params.yaml" in evaluate._origin(tmp_path)["not committed"]
