"""Files of DVC after a kill: it writes them in place."""

from __future__ import annotations

from pathlib import Path

import pytest

from darkroom.config import dvc_graph, dvc_repair

LOCK = """\
schema: '2.0'
stages:
  ingest:
    cmd: darkroom ingest
    deps:
    - path: photos
      hash: md5
      md5: 0123456789abcdef0123456789abcdef.dir
      nfiles: 3
    outs:
    - path: data/ingested
      md5: 0123456789abcdef0123456789abcdef.dir
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_lock_that_dvc_would_refuse_is_set_aside():
    """Cut off anywhere, nothing that DVC accepts is moved away, and most that it refuses is, above all an empty file."""
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from dvc.utils.serialize import parse_yaml

    refused, found = set(), set()
    for length in range(len(LOCK) + 1):
        text = LOCK[:length]
        Path("dvc.lock").write_text(text)
        try:
            COMPILED_LOCKFILE_SCHEMA(parse_yaml(text, "dvc.lock"))
        except Exception:
            refused.add(length)
        if dvc_repair.repair():
            found.add(length)
            assert Path(".darkroom/dvc.lock.damaged").read_text() == text
        assert Path("dvc.lock").exists() == (length not in found)
    assert 0 in found
    assert found <= refused
    assert len(found) > 0.75 * len(refused)


def test_without_a_lock_nothing_is_said():
    """A project that has not run has none."""
    assert dvc_repair.repair() == []
    Path("dvc.lock").write_bytes(b"\xff\xfe\x00")
    assert "dvc.lock.damaged" in dvc_repair.repair()[0]


def test_the_number_of_files_of_an_input_is_read():
    """dvc.lock tells how many files DVC has counted."""
    Path("dvc.lock").write_text(LOCK)
    assert dvc_graph.read_lock()["ingest"].files == {"photos": 3}


def test_a_damaged_list_of_running_stages_is_removed():
    """A whole one stays, and so does one that DVC writes at the moment."""
    dvc_repair.RUNNING.parent.mkdir(parents=True)
    for content in ("", '{"a": {"wri', "{}"):
        dvc_repair.RUNNING.write_text(content)
        assert bool(dvc_repair.repair()) == (content != "{}") == (not dvc_repair.RUNNING.exists())
