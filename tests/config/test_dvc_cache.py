"""`darkroom verify --cache`: what dvc.lock names is hashed again. The cache is written by hand, as DVC does."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from darkroom import cli
from darkroom.config import dvc_graph


def cached(content: bytes, place: Path) -> str:
    """Write an object of DVC's cache and return its md5."""
    digest = hashlib.md5(content).hexdigest()
    file = place / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return digest


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """Return a project with a folder and a file that stages wrote, and a study's, all in the cache and in the workspace."""
    monkeypatch.chdir(tmp_path)
    listing = []
    for name, content in (("a b.bin", b"weights"), ("model.json", b"{}")):
        (tmp_path / "models/baseline").mkdir(parents=True, exist_ok=True)
        (tmp_path / "models/baseline" / name).write_bytes(content)
        listing.append({"md5": cached(content, tmp_path), "relpath": name})
    folder = cached(json.dumps(listing).encode(), tmp_path)
    os.rename(dvc_graph.cache_path(folder), f"{dvc_graph.cache_path(folder)}.dir")
    (tmp_path / "report.html").write_bytes(b"page")
    outs = f"{{path: models/baseline, md5: {folder}.dir}}, {{path: report.html, md5: {cached(b'page', tmp_path)}}}"
    (tmp_path / "dvc.lock").write_text(f"stages: {{baseline@x: {{outs: [{outs}]}}, fetch: {{outs: [{{path: uncached}}]}}}}")
    study = tmp_path / "studies"
    study.mkdir()
    (study / "out.csv").write_bytes(b"1")
    (study / "dvc.lock").write_text(f"stages: {{study: {{outs: [{{path: out.csv, md5: {cached(b'1', study)}}}]}}}}")
    return tmp_path


def verify(capsys, code: int) -> dict:
    assert cli.main(["verify", "--cache", "--json"]) == code
    return json.loads(capsys.readouterr().out)


def flip(path: Path) -> None:
    """Change a byte of a file, and not the time of its last change."""
    before = path.stat()
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_sound_files_pass(project, capsys):
    """Where all is as dvc.lock has it the exit code is 0; what is in neither place is counted, and no damage."""
    assert verify(capsys, 0) == {"objects": 5, "outputs": 4, "bytes": 165, "absent": 0, "damaged": []}
    dvc_graph.cache_path(dvc_graph.md5(Path("report.html"))).unlink()
    Path("report.html").unlink()
    assert verify(capsys, 0)["absent"] == 1
    assert cli.main(["verify", "--cache"]) == 0
    assert "4 objects of DVC's cache and 3 outputs read" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("damage", "remedies"),
    [
        (["cache"], ["rm -f {object} && dvc commit -f models/baseline"]),
        (["workspace"], ["dvc checkout --relink -f models/baseline"]),
        (["cache", "workspace"], ["rm -f {object} && dvc repro -f -s baseline@x"] * 2),
        (["listing"], ["rm -f {listing} && dvc repro -f -s baseline@x"]),
        (["study"], ["cd studies && dvc checkout --relink -f out.csv"]),
        (["workspace", "gone"], ["dvc repro -f -s baseline@x"]),
    ],
    ids=str,
)
def test_every_damaged_file_is_listed_with_its_remedy(project, capsys, damage, remedies):
    """A changed byte is found in the cache and in the workspace, also where the time of the last change is the old one."""
    workspace, lock = Path("models/baseline/a b.bin"), dvc_graph.read_lock()
    paths = {
        "cache": dvc_graph.cache_path(dvc_graph.md5(workspace)), "workspace": workspace, "study": Path("studies/out.csv"),
        "listing": dvc_graph.cache_path(lock["baseline@x"].outs["models/baseline"]),
    }  # fmt: skip
    expected = dvc_graph.md5(workspace)
    for name in damage:
        if name == "gone":
            paths["cache"].unlink()
        else:
            flip(paths[name])
    damaged = verify(capsys, 1)["damaged"]
    places = {"object": paths["cache"], "listing": paths["listing"]}
    assert [item["remedy"] for item in damaged] == [text.format(**places) for text in remedies]
    assert {item["file"] for item in damaged} == {str(paths[name]) for name in damage if name != "gone"}
    if damage == ["cache"]:
        assert damaged[0]["expected"] == expected
        assert damaged[0]["actual"] == dvc_graph.md5(paths["cache"])


def test_a_folder_without_a_lock_is_a_mistake(tmp_path, monkeypatch, capsys):
    """Without dvc.lock there is nothing to verify: exit code 2."""
    monkeypatch.chdir(tmp_path)
    assert cli.main(["verify", "--cache"]) == 2


def test_a_damaged_object_is_not_restored(project):
    """After a refused stage its outputs are restored from the cache, but nothing damaged is."""
    os.remove("report.html")
    flip(dvc_graph.cache_path(hashlib.md5(b"page").hexdigest()))
    assert dvc_graph.restore("baseline@x") == []
    assert not Path("report.html").exists()
