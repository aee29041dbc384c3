"""Files of DVC after a kill: it writes them in place."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from darkroom.config import dvc_graph, dvc_repair
from darkroom.core.errors import WorkspaceError
from tests.conftest import ROOT

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


def test_a_lock_that_another_dvc_is_writing_is_not_moved_away(monkeypatch):
    """Empty at one moment and whole at the next, dvc.lock is not damaged: DVC writes it in place."""
    dvc_repair.LOCK.write_text("")
    monkeypatch.setattr(dvc_repair.time, "sleep", lambda _: dvc_repair.LOCK.write_text(LOCK))
    assert not dvc_repair.is_lock_damaged()


def test_a_lock_that_dvc_would_refuse_is_set_aside():
    """Cut off anywhere, nothing that DVC accepts is moved away, and most that it refuses is, above all an empty file."""
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from dvc.utils.serialize import parse_yaml

    refused, repaired = set(), set()
    for length in range(len(LOCK) + 1):
        text = LOCK[:length]
        Path("dvc.lock").write_text(text)
        try:
            COMPILED_LOCKFILE_SCHEMA(parse_yaml(text, "dvc.lock"))
        except Exception:
            refused.add(length)
        if dvc_repair.repair():
            repaired.add(length)
            assert Path(".darkroom/dvc.lock.damaged").read_text() == text
        assert Path("dvc.lock").exists() == (length not in repaired)
    assert 0 in repaired
    assert repaired <= refused
    assert len(repaired) > 0.75 * len(refused)


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


@pytest.fixture
def cache() -> dict[str, Path]:
    """Return a cache with a sound and a damaged object, and a damaged object from before the run."""
    objects = {}
    for name, content, damaged in (("sound", b"abc", b"abc"), ("damaged", b"def", b"\0\0\0"), ("earlier", b"ghi", b"")):
        digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
        objects[name] = dvc_graph.cache_path(digest)
        objects[name].parent.mkdir(parents=True)
        objects[name].write_bytes(damaged)
    os.utime(objects["earlier"], (1e9, 1e9))
    objects["being written"] = objects["sound"].with_name(f"{objects['sound'].name}.tmp")
    objects["being written"].write_bytes(b"a")
    return objects


def test_after_a_power_failure_damaged_objects_are_deleted(cache):
    """What was written since the start of a run that did not end, and is not what its name says, is deleted; nothing else is, and
    outputs of that time are hashed again by DVC, since their time of change is another."""
    output, earlier = Path("models/baseline/weights"), Path("models/earlier")
    output.parent.mkdir(parents=True)
    for path, moment in ((output, time.time()), (earlier, 1e9)):
        path.write_bytes(b"abc")
        os.utime(path, (moment, moment))
    times = [path.stat().st_mtime for path in (output, earlier)]
    run = dvc_graph.cache_folder() / "runs/8b/8b0a/8d9e"
    run.parent.mkdir(parents=True)
    run.write_bytes(bytes(100))
    dvc_repair.BEGAN.parent.mkdir()
    dvc_repair.BEGAN.write_text(str(time.time() - 60))
    messages: list[str] = []
    with dvc_repair.guard(messages.append):
        assert {name for name, path in cache.items() if path.exists()} == {"sound", "earlier", "being written"}
    assert "damaged" in messages[0]
    assert "2;" in messages[0]
    assert not run.parent.exists()  # DVC fails where it is empty
    after = [path.stat().st_mtime for path in (output, earlier)]
    assert after[0] != times[0]
    assert after[0] == pytest.approx(times[0], abs=0.001)
    assert after[1] == times[1]


@pytest.mark.parametrize("ends", ["by itself", "by an error", "by a kill"])
def test_only_a_run_that_did_not_end_is_looked_at(cache, ends):
    """The start of a run is on record until it ends, by an error or not; a kill leaves it."""
    script = "import os\nfrom darkroom.config import dvc_repair\nwith dvc_repair.guard(print):\n    "
    script += {"by itself": "pass", "by an error": "raise SystemExit(2)", "by a kill": "os.kill(os.getpid(), 9)"}[ends]
    subprocess.run([sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": str(ROOT / "src")})
    assert dvc_repair.BEGAN.exists() == (ends == "by a kill")
    with dvc_repair.guard(print):
        assert cache["damaged"].exists()  # it is older than that run


@pytest.mark.parametrize(("name", "program"), [("a{2}", "DVC"), ("50% done", "MLflow")])
def test_a_path_that_is_taken_for_a_template_is_refused(tmp_path, monkeypatch, name, program):
    """DVC takes a path with braces for a template, MLflow one with %, and both fail; no stage is started there."""
    place = tmp_path / name
    place.mkdir()
    monkeypatch.chdir(place)
    with pytest.raises(WorkspaceError, match=program), dvc_repair.guard(print):
        pytest.fail("DVC was started")
