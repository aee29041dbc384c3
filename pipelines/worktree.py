"""A committed state of the project in a folder of its own, so that a working tree with somebody's changes is never touched.

It is a git worktree under `.darkroom/worktrees`, which stays, so that DVC knows there what it did last. It shares with the main
checkout DVC's cache, the raw data, MLflow's records and `.darkroom`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from darkroom.config import params
from darkroom.core.errors import WorkspaceError

HERE = Path(".darkroom/worktrees")
SAME = ("params.yaml", "dvc.yaml")  # what must not differ: else a flow would run something else than what people see
RAW = (("ingest", "source"), ("fetch", "source"), ("weights", "source"), ("weights", "pretrain_on"))  # params that may be folders


NOBODY = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER")
          for key, value in (("NAME", "Darkroom"), ("EMAIL", "darkroom@localhost"))}  # fmt: skip


def git(*arguments: str, folder: Path = Path(), environment: dict[str, str] | None = None, given: str | None = None) -> str:
    """Return what git says; WorkspaceError with its words where it fails."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, env=os.environ | (environment or {}), input=given, capture_output=True, text=True
        )
    except FileNotFoundError:
        raise WorkspaceError("git is not installed", "install it, or run the flow `repro`, which needs none") from None
    if done.returncode:
        words = (done.stderr.strip() or done.stdout.strip()).replace("\n", "; ")
        raise WorkspaceError(f"git {arguments[0]}: {words}", "see `git status`, and that the project is a clone with commits")
    return done.stdout.strip()


def commit_of(ref: str) -> str:
    """Return the commit that a ref names; WorkspaceError where params.yaml or dvc.yaml of this checkout differ from it."""
    try:
        commit = git("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")
    except WorkspaceError:
        raise WorkspaceError(f"there is no commit {ref} here ({Path.cwd()})", "`git log --all` lists them") from None
    for name in SAME:
        try:
            committed = git("rev-parse", "--verify", "--quiet", f"{commit}:./{name}")
        except WorkspaceError:
            raise WorkspaceError(f"{name} is not in commit {ref}", f"`git add {name}` and commit it") from None
        if committed != git("hash-object", f"--path={name}", name):
            raise WorkspaceError(
                f"{name} here is not that of commit {ref}, which would be run",
                f"commit it (`git commit {name}`), or put it back (`git checkout {ref} -- {name}`)",
            )
    return commit


def at(commit: str, name: str) -> Path:
    """Return the folder with a commit's files, made or brought up to date."""
    root, top = Path.cwd(), Path(git("rev-parse", "--show-toplevel"))
    tree = (HERE / name).resolve()
    place = tree / root.relative_to(top)
    if not (tree / ".git").exists():
        git("worktree", "prune")
        tree.parent.mkdir(parents=True, exist_ok=True)
        git("worktree", "add", "--force", "--detach", str(tree), commit)
    lock = place / "dvc.lock"
    known = lock.read_bytes() if lock.exists() else b""
    git("checkout", "--quiet", "--force", "--detach", commit, folder=tree)
    if known:  # what was run here last, and not what the commit says of some other place
        lock.write_bytes(known)
    _link(place / ".darkroom", root / ".darkroom")
    _share_cache(root, place)
    for section, key in RAW:
        _share_raw(root, place, params.read_yaml(place / "params.yaml").get(section, {}).get(key))
    return place


def _link(link: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(target, target_is_directory=True)


def _share_cache(root: Path, place: Path) -> None:
    """Let DVC there use the cache and the settings of the main checkout."""
    local, known = place / ".dvc" / "config.local", root / ".dvc" / "config.local"
    text = known.read_text(encoding="utf-8") if known.exists() else ""
    noted = place / ".dvc" / "tmp" / "config.main"
    if noted.exists() and noted.read_text(encoding="utf-8") == text and local.exists():
        return
    local.write_text(text, encoding="utf-8")
    cache = _dvc("cache", "dir", folder=root)
    _dvc("cache", "dir", "--local", cache, folder=place)
    noted.parent.mkdir(parents=True, exist_ok=True)
    noted.write_text(text, encoding="utf-8")


def _dvc(*arguments: str, folder: Path) -> str:
    done = subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise WorkspaceError(f"dvc {' '.join(arguments)}: {done.stderr.strip()}", "`dvc doctor` says more")
    return done.stdout.strip()


def _share_raw(root: Path, place: Path, value: object) -> None:
    """Let a folder or file that a param names, and that is not committed, be found there too."""
    if not isinstance(value, str) or not value or Path(value).expanduser().is_absolute() or not (root / value).exists():
        return
    link = place / value
    if ".." in Path(value).parts:
        raise WorkspaceError(f"{value} lies outside the project, and a committed state is run elsewhere", "write its whole path")
    if os.path.lexists(link) or _is_made(root, value):
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to((root / value).resolve())


def _is_made(root: Path, value: str) -> bool:
    """Tell whether a stage makes it: then DVC has it."""
    stages = params.read_yaml(root / "dvc.lock").get("stages", {}) if (root / "dvc.lock").exists() else {}
    return any(out["path"] == value for stage in stages.values() for out in stage.get("outs", []))


def keep(place: Path, files: list[str], branch: str, message: str) -> str:
    """Commit files of a worktree to a branch, without touching a working tree; return the commit, nothing where it has them.

    The branch goes on from where it was, and takes in the commit that was run; where there is none, it begins there.
    """
    ran = git("rev-parse", "HEAD", folder=place)
    tip = git("for-each-ref", "--format=%(objectname)", f"refs/heads/{branch}", folder=place)
    with tempfile.TemporaryDirectory() as scratch:
        own = {"GIT_INDEX_FILE": str(Path(scratch) / "index")}
        git("read-tree", ran, folder=place, environment=own)
        for file in files:
            git("update-index", "--add", "--", file, folder=place, environment=own)
        tree = git("write-tree", folder=place, environment=own)
    if tip and git("rev-parse", f"{tip}^{{tree}}", folder=place) == tree:
        return ""
    parents = [parent for parent in (tip, ran) if parent]
    if tip and git("merge-base", tip, ran, folder=place) == ran:  # it has that commit already
        parents = [tip]
    who = {} if _has_name(place) else NOBODY
    chosen = [word for parent in parents for word in ("-p", parent)]
    commit = git("commit-tree", tree, *chosen, folder=place, environment=who, given=message)
    git("update-ref", f"refs/heads/{branch}", commit, tip or "0" * len(commit), folder=place)
    return commit


def _has_name(place: Path) -> bool:
    """Tell whether git knows in whose name it commits here."""
    try:
        git("config", "user.email", folder=place)
        return True
    except WorkspaceError:
        return "GIT_COMMITTER_EMAIL" in os.environ
