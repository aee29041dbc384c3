"""`darkroom tidy` removes what nobody needs, and nothing that a living process writes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from darkroom import cli
from darkroom.commands import tidy
from darkroom.core import atomic, locks
from tests.conftest import ROOT

WRITER = """
import sys
from pathlib import Path
from darkroom.core import atomic

with atomic.new_folder(Path(sys.argv[1])) as folder:
    (folder / "train.npy").write_bytes(b"x" * 1000)
    print("writing", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DARKROOM_TRACKING", "off")
    return tmp_path


def wait_for(condition, seconds: float = 60) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def scratch_in(folder: Path) -> list[Path]:
    return atomic.scratch_folders(folder) if folder.is_dir() else []


@pytest.mark.slow
def test_a_stage_that_is_started_by_hand_keeps_its_scratch_folder(workspace, capsys):
    """Beside `darkroom fetch` nothing is removed; once it is killed its scratch folder is."""
    raw = workspace / "data" / "raw"
    changed = (workspace / "params.yaml").read_text().replace("glyphs: 5000", "glyphs: 500000")
    (workspace / "params.yaml").write_text(changed)
    mine = [".mine.partial", ".mine.too.partial"]  # people's own
    for name in mine:
        (raw / name).mkdir(parents=True)
    stage = subprocess.Popen([sys.executable, "-m", "darkroom", "fetch", "glyphs", "--out", "data/raw/glyphs"])
    try:
        wait_for(lambda: any(path.name.startswith(".glyphs.") for path in scratch_in(raw)) or stage.poll() is not None)
        assert cli.main(["tidy"]) == 0
        assert "nothing to remove" in capsys.readouterr().out
        assert stage.poll() is None
        assert len(scratch_in(raw)) == 2
    finally:
        stage.kill()
        stage.wait()
    assert cli.main(["tidy", "--dry-run"]) == 0
    assert "would remove data/raw/.glyphs." in capsys.readouterr().out
    assert len(scratch_in(raw)) == 2
    assert cli.main(["tidy"]) == 0
    assert sorted(path.name for path in raw.iterdir()) == mine


def test_feature_maps_that_a_process_writes_are_kept(workspace, capsys):
    """Maps of dropped backbones are removed, those that are being written are not, those of a killed process
    are.
    """
    maps = workspace / ".darkroom" / "maps"
    (maps / "vgg16").mkdir(parents=True)
    (maps / "vgg11_bn").mkdir()  # in params.yaml
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(maps / "mobilenet_v2")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert writer.stdout.readline() == "writing\n"
        assert cli.main(["tidy"]) == 0
        output = capsys.readouterr().out
        assert "removed .darkroom/maps/vgg16 " in output
        assert "dvc gc --workspace --all-commits" in output  # without it the outputs of earlier commits would be lost
        assert {path.name for path in maps.iterdir()} == {"vgg11_bn", *(path.name for path in scratch_in(maps))}
        assert len(scratch_in(maps)) == 1
    finally:
        writer.kill()
        writer.communicate()
    assert cli.main(["tidy"]) == 0
    assert [path.name for path in maps.iterdir()] == ["vgg11_bn"]


def test_a_swap_that_was_interrupted_is_finished(workspace):
    """The new output of a writer that was killed between the two renames comes into its place."""
    scratch = workspace / "models" / ".baseline.a_b1.partial"
    for name in ("old", "new"):
        (scratch / name).mkdir(parents=True)
        (scratch / name / "model.json").write_text(name)
    assert cli.main(["tidy"]) == 0
    assert (workspace / "models" / "baseline" / "model.json").read_text() == "new"
    assert [path.name for path in (workspace / "models").iterdir()] == ["baseline"]


def test_it_waits_for_the_run_that_holds_the_workspace(workspace, capfd):
    """Nothing is removed during `darkroom repro`, which is named; what it left is removed when it ends."""
    left = workspace / "models" / ".x.y.partial"
    left.mkdir(parents=True)
    with locks.workspace("darkroom repro", print):
        tidy = threading.Thread(target=cli.main, args=(["tidy"],))
        tidy.start()
        errors = ""
        while "darkroom repro" not in errors:
            errors += capfd.readouterr().err
        assert f"process {os.getpid()}" in errors
        assert left.exists()
    tidy.join(60)
    assert not left.exists()


def test_a_stage_of_dvc_repro_is_named(workspace, capsys):
    """`dvc repro` by itself does not hold the workspace: DVC's own record of running stages makes tidy
    refuse.
    """
    (workspace / ".dvc" / "tmp").mkdir(parents=True)
    holder = {"pid": os.getpid(), "cmd": "dvc repro embed@vgg16"}
    (workspace / ".dvc/tmp/rwlock").write_text(json.dumps({"data/embedded/vgg16": {"write": holder}}))
    assert cli.main(["tidy"]) == 75
    error = capsys.readouterr().err
    assert "dvc repro embed@vgg16" in error
    assert str(os.getpid()) in error
    holder["pid"] = 2**30
    (workspace / ".dvc/tmp/rwlock").write_text(json.dumps({"data/embedded/vgg16": {"write": holder}}))
    assert cli.main(["tidy"]) == 0


def test_dvc_starts_no_stage_meanwhile(workspace, monkeypatch, capsys):
    """While outputs are removed DVC's own lock is held, and where DVC holds it nothing is removed."""
    import zc.lockfile

    left = workspace / "models" / ".x.y.partial"
    left.mkdir(parents=True)
    monkeypatch.setattr(tidy, "DVC_WAIT", 0.1)
    (workspace / ".dvc" / "tmp").mkdir(parents=True)
    lock = zc.lockfile.LockFile(str(workspace / tidy.DVC_LOCK))
    assert cli.main(["tidy"]) == 75
    assert "DVC is at work" in capsys.readouterr().err
    assert left.exists()
    lock.close()
    remove, refused = tidy._remove, []

    def removed(path: Path) -> None:
        with pytest.raises(zc.lockfile.LockError):
            zc.lockfile.LockFile(str(workspace / tidy.DVC_LOCK))
        refused.append(path)
        remove(path)

    monkeypatch.setattr(tidy, "_remove", removed)
    assert cli.main(["tidy"]) == 0
    assert refused
    assert not left.exists()
    zc.lockfile.LockFile(str(workspace / tidy.DVC_LOCK)).close()


def test_leftovers_of_an_earlier_version_are_removed(workspace):
    """It named scratch files by the process that wrote them."""
    left = [".darkroom/scratch/sources/1073741824-photos.tar", "reports/.report.html.1073741824.x.partial"]
    for path in map(Path, left):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    (workspace / "data").mkdir()
    assert cli.main(["tidy"]) == 0
    assert not any(Path(path).exists() for path in left)


@pytest.fixture
def repository(workspace):
    """Return a workspace with a git and a DVC repository, and a way to put an object into its cache."""
    tree = workspace / ".darkroom" / "worktrees" / "retrain"
    tree.mkdir(parents=True)
    for folder in (workspace, tree):
        subprocess.run(f"git init -q && {sys.executable} -m dvc init -q", cwd=folder, shell=True, check=True)
    return workspace


def add_object(folder: Path, content: bytes) -> Path:
    """Put a content into the cache of a folder; return its object, whose name has its md5."""
    md5 = hashlib.md5(content).hexdigest()
    path = folder / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def lock(folder: Path, path: Path) -> None:
    """Let the dvc.lock of a folder name an object of a cache as its output."""
    md5, size = path.parent.name + path.name, path.stat().st_size
    (folder / "dvc.yaml").write_text("stages:\n  a:\n    cmd: 'true'\n    outs: [a.txt]\n")
    out = f"{{path: a.txt, hash: md5, md5: {md5}, size: {size}}}"
    (folder / "dvc.lock").write_text(f"schema: '2.0'\nstages:\n  a:\n    cmd: 'true'\n    outs: [{out}]\n")


def damaged_files(folder: Path, days: int) -> list[Path]:
    """Set aside what is damaged, so many days ago, with its latest try to upload a record now; return the paths."""
    then = time.time() - days * 86400
    date = time.strftime("%Y-%m-%d-%H%M%S", time.localtime(then))
    record = folder / ".darkroom" / "damaged" / f"baseline-{days}"
    names = [
        *(f".darkroom/backups/damaged-{date}.db{suffix}" for suffix in ("", "-wal")),
        f".darkroom/backups/newer-mlflow-{date}.db",
    ]
    paths = [record / "record.jsonl", *(folder / name for name in (*names, f"mlflow.db.{date}"))]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    os.utime(paths[0], (then, then))
    (record / "reason.txt").write_text("ValueError: the upload was refused")
    return [record, *paths[1:]]


@pytest.mark.slow
def test_old_history_goes_and_what_is_in_use_stays(repository, capsys, monkeypatch):
    """Objects that neither this folder nor a worktree names are removed, downloads that nobody has used since, and what was set
    aside as damaged or before an upgrade; a copy that a person has made stays.

    `--dry-run` names them and removes nothing. A cache outside the project is left alone.
    """
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    mine, theirs, nobodys = (add_object(repository, content) for content in (b"mine", b"of a worktree", b"nobody's"))
    lock(repository, mine)
    lock(repository / ".darkroom" / "worktrees" / "retrain", theirs)
    used, unused = (repository / ".darkroom" / "versions" / name for name in ("used", "unused"))
    for folder in (used, unused):
        folder.mkdir(parents=True)
    os.utime(unused, (time.time() - 3 * 86400,) * 2)
    old, recent = damaged_files(repository, days=3), damaged_files(repository, days=1)
    recent.append(repository / "mlflow.db.before-the-holidays")
    recent[-1].write_bytes(b"a person's own")
    os.utime(recent[-1], (0, 0))
    old.append(repository / ".darkroom" / "dvc.lock.damaged")
    old[-1].write_text("schema: '2.")
    os.utime(old[-1], (time.time() - 3 * 86400,) * 2)
    assert cli.main(["tidy", "--older-than", "2", "--dry-run"]) == 0
    assert "would remove .darkroom/versions/unused" in capsys.readouterr().out
    assert nobodys.exists()
    assert unused.exists()
    assert all(path.exists() for path in (*old, *recent))
    assert cli.main(["tidy", "--older-than", "2"]) == 0
    assert [path.exists() for path in (mine, theirs, nobodys, used, unused)] == [True, True, False, True, False]
    assert [path for path in old if path.exists()] == []
    assert [path for path in recent if not path.exists()] == []
    nobodys.write_bytes(b"nobody's")
    with (repository / ".dvc" / "config.local").open("a") as file:
        file.write(f"[cache]\n    dir = {repository.parent / 'shared'}\n")
    assert cli.main(["tidy", "--older-than", "2"]) == 0
    assert nobodys.exists()
    assert "others may share it" in capsys.readouterr().out
