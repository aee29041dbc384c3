"""Worktrees share what is not committed, and results are committed without touching the working tree."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from darkroom.core.errors import WorkspaceError
from pipelines import worktree

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def empty(tmp_path_factory) -> Path:
    """Return a folder with git and DVC."""
    folder = tmp_path_factory.mktemp("empty")
    subprocess.run(["git", "init", "-q", "-b", "main"], cwd=folder, check=True)
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], cwd=folder, check=True)
    (folder / ".git" / "info" / "exclude").write_text("/.darkroom\n")
    return folder


@pytest.fixture
def clone(empty, tmp_path, monkeypatch) -> Path:
    """Return a project with a commit, DVC, and raw images that are not committed.

    It is the working directory.
    """
    folder = tmp_path / "project"
    shutil.copytree(empty, folder)
    monkeypatch.chdir(folder)
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    (folder / "params.yaml").write_text("ingest: {source: photos}\nweights: {source: imagenet}\n")
    (folder / "dvc.yaml").write_text("stages: {}\n")
    (folder / "photos").mkdir()
    commit("as it is")
    return folder


def dvc_cache(folder: Path) -> Path:
    done = subprocess.run([sys.executable, "-m", "dvc", "cache", "dir"], cwd=folder, capture_output=True, text=True, check=True)
    return Path(done.stdout.strip()).resolve()


def commit(message: str) -> None:
    subprocess.run(["git", "add", "params.yaml", "dvc.yaml", ".dvc"], check=True)
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", message], check=True)


def test_a_worktree_shares_files_that_are_not_committed(clone):
    """It has the commit's files and links to this folder's raw images, `.darkroom` and DVC's cache.

    It follows later commits.
    """
    (clone / ".dvc" / "config.local").write_text("['remote \"store\"']\n    url = /somewhere\n")
    folder = worktree.check_out(worktree.resolve_commit("HEAD"), "name")
    assert (folder / "photos").resolve() == clone / "photos"
    assert (folder / ".darkroom").resolve() == clone / ".darkroom"
    local = (folder / ".dvc" / "config.local").read_text()
    assert "url = /somewhere" in local
    assert dvc_cache(folder) == clone / ".dvc" / "cache"
    (folder / "dvc.yaml").write_text("changed by a run")
    (clone / "dvc.yaml").write_text("stages: {}\n# newer\n")
    commit("newer")
    assert worktree.check_out(worktree.resolve_commit("main"), "name") == folder
    assert (folder / "dvc.yaml").read_text() == "stages: {}\n# newer\n"
    (folder / "dvc.lock").write_text("of the worktree")
    (clone / "dvc.lock").write_text("# of this folder")
    subprocess.run(["git", "add", "dvc.lock"], check=True)
    commit("with a lock")
    worktree.check_out(worktree.resolve_commit("HEAD"), "name")
    assert (folder / "dvc.lock").read_text() == "of the worktree"
    (clone / "params.yaml").write_text("ingest: {source: ../photos}\n")
    (clone.parent / "photos").mkdir()
    commit("outside")
    with pytest.raises(WorkspaceError, match="outside the project"):
        worktree.check_out(worktree.resolve_commit("HEAD"), "name")


def test_a_copy_of_the_project_has_a_worktree_of_its_own(clone, monkeypatch):
    """After a copy, and after a move, the worktree belongs to the project that it lies in; the original's does not change."""
    original = worktree.check_out(worktree.resolve_commit("HEAD"), "name")
    head = (original / ".git").read_text(), worktree.git("rev-parse", "HEAD", folder=original)
    for place in ("copy", "moved"):
        project = clone.parent / place
        if place == "copy":
            shutil.copytree(clone, project, symlinks=True)
        else:
            (clone.parent / "copy").rename(project)
        monkeypatch.chdir(project)
        (project / "dvc.yaml").write_text(f"stages: {{}}\n# {place}\n")
        commit(place)
        folder = worktree.check_out(worktree.resolve_commit("HEAD"), "name")
        assert (folder / "dvc.yaml").read_text() == (project / "dvc.yaml").read_text()
        assert (folder / "photos").resolve() == project / "photos"
        assert (folder / ".darkroom").resolve() == project / ".darkroom"
        assert dvc_cache(folder) == project / ".dvc" / "cache"
        assert worktree.git("rev-parse", "--path-format=absolute", "--git-common-dir", folder=folder) == str(project / ".git")
        assert str(clone) + os.sep not in subprocess.run(["git", "worktree", "list"], capture_output=True, text=True).stdout
    assert ((original / ".git").read_text(), worktree.git("rev-parse", "HEAD", folder=original)) == head


@pytest.mark.parametrize("name", worktree.SAME_FILES)
def test_a_commit_that_would_run_something_else_is_refused(clone, name):
    """Where params, graph or the digests of the code are not committed as they are in the folder, the file is named."""
    (clone / name).write_text("other: 1\n")
    with pytest.raises(WorkspaceError, match=f"{name} (of this folder differs|is not in commit)"):
        worktree.resolve_commit("HEAD")


def test_results_are_committed_beside_the_working_tree(clone, monkeypatch):
    """Results go to a branch, whose commits have the commit that was run as a parent.

    The same results make no second commit.
    """
    monkeypatch.setattr(worktree, "_share_cache", lambda *_: None)
    folder = worktree.check_out(worktree.resolve_commit("HEAD"), "name")
    head = worktree.git("rev-parse", "HEAD")
    (folder / "dvc.lock").write_text("one")
    first = worktree.commit_files(folder, ["dvc.lock"], "results", "first")
    assert worktree.git("show", "results:dvc.lock") == "one"
    assert worktree.git("rev-list", "--parents", "-n1", "results").split() == [first, head]
    assert worktree.commit_files(folder, ["dvc.lock"], "results", "again") == ""
    (clone / "dvc.yaml").write_text("stages: {}\n# newer\n")
    commit("newer")
    newer = worktree.git("rev-parse", "HEAD")
    worktree.check_out(newer, "name")
    (folder / "dvc.lock").write_text("two")
    second = worktree.commit_files(folder, ["dvc.lock"], "results", "second")
    assert worktree.git("rev-list", "--parents", "-n1", "results").split() == [second, first, newer]
    assert worktree.git("rev-parse", "main") == newer
    assert "dvc.lock" not in worktree.git("status", "--porcelain")


def test_a_snapshot_has_the_tracked_files_as_they_are(clone, monkeypatch):
    """A snapshot is a commit with the uncommitted changes of tracked files, which stay, and HEAD where there are none.

    What git does not track is listed; conflicts are refused.
    """
    monkeypatch.setattr(worktree, "_share_cache", lambda *_: None)
    head = worktree.git("rev-parse", "HEAD")
    assert worktree.snapshot() == head
    (clone / "params.yaml").write_text("ingest: {source: photos}\nweights: {source: random}\n")
    (clone / "new.py").write_text("")
    (clone / "dvc.lock").write_text("schema: '2.0'\n")
    before = worktree.git("status", "--porcelain")
    folder = worktree.check_out(worktree.snapshot(), "name")
    assert "random" in (folder / "params.yaml").read_text()
    assert worktree.git("status", "--porcelain") == before
    assert worktree.untracked() == ["new.py"]
    assert not (folder / "new.py").exists()
    assert worktree.git("stash", "list") == ""
    subprocess.run(["git", "checkout", "-q", "-b", "other", "HEAD"], check=True)
    commit("theirs")
    subprocess.run(["git", "checkout", "-q", "main"], check=True)
    (clone / "params.yaml").write_text("ingest: {source: photos}\nweights: {source: imagenet}  # ours\n")
    commit("ours")
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", "merge", "-q", "other"], stdout=subprocess.DEVNULL)
    with pytest.raises(WorkspaceError, match="conflict"):
        worktree.snapshot()


def test_a_worktree_has_the_weight_files_of_the_project(tmp_path):
    """`data/weights` is committed for its .gitignore alone: the worktree links to each file that it lacks, and again to nothing."""
    for place in ("root", "tree"):
        (tmp_path / place / "data/weights").mkdir(parents=True)
        (tmp_path / place / "data/weights/.gitignore").touch()
    (tmp_path / "root/data/weights/vgg16.pth").write_text("weights")
    for _ in range(2):
        worktree._share_raw(tmp_path / "root", tmp_path / "tree", "data/weights")
    assert (tmp_path / "tree/data/weights/vgg16.pth").read_text() == "weights"
    assert not (tmp_path / "tree/data/weights/.gitignore").is_symlink()


@pytest.mark.parametrize("source", ["data/raw/url", "data/raw/url/set.tar", "data/raw/url/photos"])
def test_what_fetch_copies_is_not_shared(tmp_path, source):
    """A worktree has its own copy of what is at an address, also of one file or folder in it; a link of an earlier version goes."""
    root, tree = tmp_path / "root", tmp_path / "tree"
    (root / source).parent.mkdir(parents=True)
    (root / source).write_text("an earlier copy")
    (tree / source).parent.mkdir(parents=True)
    (tree / source).symlink_to(root / source)
    (tree / "dvc.yaml").write_text("stages: {fetch: {outs: ['data/raw/${item.dataset}']}}")
    (tree / "params.yaml").write_text("fetch: {datasets: [url]}")
    for _ in range(2):
        worktree._share_raw(root, tree, source)
        assert not (tree / source).is_symlink()
