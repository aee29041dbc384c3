"""A commit of the project in a folder of its own, so that uncommitted changes are never touched.

The folder is a git worktree under `.darkroom/worktrees`. It is kept, so that DVC knows there which stages it
ran. It shares DVC's cache, the raw data, MLflow's records and `.darkroom` with the main checkout. A new one
begins with the outputs that `dvc.lock` of the main checkout lists.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from darkroom.config import dvc_graph, params
from darkroom.core.errors import WorkspaceError

WORKTREES = Path(".darkroom/worktrees")
SAME_FILES = ("params.yaml", "dvc.yaml", "code.yaml")  # a difference would run something else than the user sees
RAW_PARAMS = (("ingest", "source"), ("fetch", "source"), ("weights", "folder"), ("weights", "pretrain_on"))  # may be folders
IDENTITY = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER")
            for key, value in (("NAME", "Darkroom"), ("EMAIL", "darkroom@localhost"))}  # fmt: skip


def git(
    *arguments: str, folder: Path = Path(), environment: dict[str, str] | None = None, stdin: str | None = None, check: bool = True
) -> str:
    """Return the output of git; where it fails, WorkspaceError with its message, or nothing without `check`."""
    environment = os.environ | (environment or {})
    try:
        result = subprocess.run(["git", *arguments], cwd=folder, env=environment, input=stdin, capture_output=True, text=True)
    except FileNotFoundError:
        raise WorkspaceError("git is not installed", "install it, or run the flow `repro`, which does not use git") from None
    if result.returncode and check:
        message = (result.stderr.strip() or result.stdout.strip()).replace("\n", "; ")
        raise WorkspaceError(f"git {arguments[0]}: {message}", "see `git status`; the project must be a clone with commits")
    return result.stdout.strip()


def resolve_commit(ref: str, here: Path = Path()) -> str:
    """Return the commit of a ref.

    Raises WorkspaceError where params.yaml, dvc.yaml or code.yaml of this checkout differ from it.
    """
    commit = git("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}", folder=here, check=False)
    if not commit:
        raise WorkspaceError(f"there is no commit {ref} here ({here.absolute()})", "see `git log --all`")
    for name in (name for name in SAME_FILES if (here / name).exists()):
        committed = git("rev-parse", "--verify", "--quiet", f"{commit}:./{name}", folder=here, check=False)
        if not committed:
            raise WorkspaceError(f"{name} is not in commit {ref}", f"`git add {name}` and commit it")
        if committed != git("hash-object", f"--path={name}", name, folder=here):
            raise WorkspaceError(
                f"{name} of this folder differs from that of commit {ref}, which would be run",
                f"commit it (`git commit {name}`), or restore it (`git checkout {ref} -- {name}`)",
            )
    return commit


def snapshot(here: Path = Path()) -> str:
    """Return a commit of the tracked files as they are in a folder, on no branch: HEAD where none is changed."""
    if git("ls-files", "--unmerged", folder=here):
        raise WorkspaceError("files of this folder are in conflict", "finish the merge, see `git status`")
    return git("stash", "create", folder=here, environment=IDENTITY) or resolve_commit("HEAD", here)


def untracked() -> list[str]:
    """Return the files and folders here that git neither tracks nor ignores, but dvc.lock, which a worktree gets otherwise."""
    paths = git("ls-files", "--others", "--exclude-standard", "--directory", "--no-empty-directory").splitlines()
    return [path for path in paths if path != "dvc.lock"]


def check_out(commit: str, name: str, with_data: bool = True) -> Path:
    """Create the worktree of a name or move it to another commit; return the project's folder in it.

    Without data it has neither the outputs of the stages nor what they read.
    """
    root, top = Path.cwd(), Path(git("rev-parse", "--show-toplevel"))
    tree = (WORKTREES / name).resolve()
    folder = tree / root.relative_to(top)
    is_new = not _reconnect(tree)
    if is_new:
        shutil.rmtree(tree, ignore_errors=True)
        git("worktree", "prune")
        tree.parent.mkdir(parents=True, exist_ok=True)
        git("worktree", "add", "--force", "--detach", str(tree), commit)
    lock = folder / "dvc.lock"
    last_lock = lock.read_bytes() if lock.exists() else b""
    git("checkout", "--quiet", "--force", "--detach", commit, folder=tree)
    if last_lock:  # it describes the outputs that are there; the commit's one may describe those of another machine
        lock.write_bytes(last_lock)
    (root / ".darkroom").mkdir(exist_ok=True)
    _link(folder / ".darkroom", root / ".darkroom")
    _share_cache(root, folder)
    if not with_data:
        return folder
    for section, key in RAW_PARAMS:
        _share_raw(root, folder, params.read_yaml(folder / "params.yaml").get(section, {}).get(key))
    if is_new:
        _restore_outputs(root, folder)
    return folder


def _reconnect(tree: Path) -> bool:
    """Write the paths by which git connects a worktree with this repository; return whether there is one.

    They are absolute: after a copy of the project they lead to the original, after a move to nowhere.
    """
    try:
        record = Path(git("rev-parse", "--git-common-dir")).resolve() / "worktrees" / Path((tree / ".git").read_text().strip()).name
        (record / "gitdir").write_text(f"{tree / '.git'}\n")
    except OSError:
        return False
    (tree / ".git").write_text(f"gitdir: {record}\n")
    return True


def _restore_outputs(root: Path, folder: Path) -> None:
    """Bring the outputs of the main checkout's last run, from DVC's cache or as copies; DVC then runs what differs."""
    lock = root / "dvc.lock"
    if not lock.exists():
        return
    shutil.copyfile(lock, folder / "dvc.lock")
    _dvc("checkout", "--quiet", "--allow-missing", "dvc.yaml", folder=folder)
    for out in (out for stage in dvc_graph.read_lock(lock).values() for out in stage.outs):
        if (root / out).is_file() and not (folder / out).exists():  # DVC does not cache it
            (folder / out).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / out, folder / out)


def _link(link: Path, target: Path) -> None:
    """Link a path of the worktree to one of the project, relative, so that both can be moved together."""
    if link.is_symlink():
        if not os.path.isabs(os.readlink(link)):
            return
        link.unlink()  # of an earlier version: in a copy it leads to the original
    link.symlink_to(os.path.relpath(target, link.parent.resolve()), target_is_directory=target.is_dir())


def _share_cache(root: Path, folder: Path) -> None:
    """Let DVC use the cache and the local settings of the main checkout."""
    local, main = folder / ".dvc" / "config.local", root / ".dvc" / "config.local"
    text = main.read_text(encoding="utf-8") if main.exists() else ""
    cache = Path(_dvc("cache", "dir", folder=root))
    place = os.path.relpath(cache, folder.resolve()) if cache.is_relative_to(root) else str(cache)
    applied = folder / ".dvc" / "tmp" / "config.main"
    settings = f"{text}\n{place}"
    if applied.exists() and applied.read_text(encoding="utf-8") == settings and local.exists():
        return
    local.write_text(text, encoding="utf-8")
    _dvc("cache", "dir", "--local", place, folder=folder)
    applied.parent.mkdir(parents=True, exist_ok=True)
    applied.write_text(settings, encoding="utf-8")


def _dvc(*arguments: str, folder: Path) -> str:
    result = subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=folder, capture_output=True, text=True)
    if result.returncode:
        raise WorkspaceError(f"dvc {' '.join(arguments)}: {result.stderr.strip()}", "see `dvc doctor`")
    return result.stdout.strip()


def _share_raw(root: Path, folder: Path, value: object) -> None:
    """Link the folder or file of a param that is not committed."""
    if not isinstance(value, str) or not value or Path(value).expanduser().is_absolute() or not (root / value).exists():
        return
    link = folder / value
    if any(Path(value).is_relative_to(out) for out in _outputs(root, folder)):  # DVC provides it, there as it is there
        if link.is_symlink():
            link.unlink()
        return
    if ".." in Path(value).parts:
        raise WorkspaceError(f"{value} lies outside the project, and the commit is run in another folder", "write an absolute path")
    if not link.is_symlink():
        if value == params.WEIGHTS and link.is_dir():  # committed for its .gitignore; its files are not
            for file in set(os.listdir(root / value)) - set(os.listdir(link)):
                _link(link / file, root / value / file)
            return
        if link.exists():
            return
        link.parent.mkdir(parents=True, exist_ok=True)
    _link(link, root / value)


def _outputs(root: Path, folder: Path) -> set[str]:
    """Return what stages write: what they have written for the project, and what `fetch` writes in the worktree."""
    outs = {out for stage in dvc_graph.read_lock(root / "dvc.lock").values() for out in stage.outs}
    files = (folder / "dvc.yaml", folder / "params.yaml")
    graph, settings = (params.read_yaml(file) if file.exists() else {} for file in files)
    patterns = graph.get("stages", {}).get("fetch", {}).get("outs", [])
    datasets = settings.get("fetch", {}).get("datasets") or []
    return outs | {str(out).replace("${item.dataset}", str(name)) for out in patterns for name in datasets}


def commit_files(folder: Path, files: list[str], branch: str, message: str) -> str:
    """Commit files of a worktree to a branch; return the commit, or "" if nothing changed.

    The commit's parents are the tip of the branch, if there is one, and the commit that was run.
    """
    head = git("rev-parse", "HEAD", folder=folder)
    tip = git("for-each-ref", "--format=%(objectname)", f"refs/heads/{branch}", folder=folder)
    with tempfile.TemporaryDirectory() as scratch:
        index = {"GIT_INDEX_FILE": str(Path(scratch) / "index")}
        git("read-tree", head, folder=folder, environment=index)
        for file in files:
            git("update-index", "--add", "--", file, folder=folder, environment=index)
        tree = git("write-tree", folder=folder, environment=index)
    if tip and git("rev-parse", f"{tip}^{{tree}}", folder=folder) == tree:
        return ""
    contains_head = bool(tip) and git("merge-base", tip, head, folder=folder) == head
    parents = [tip] if contains_head else [parent for parent in (tip, head) if parent]
    has_identity = git("config", "user.email", folder=folder, check=False) or "GIT_COMMITTER_EMAIL" in os.environ
    identity = {} if has_identity else IDENTITY
    options = [word for parent in parents for word in ("-p", parent)]
    commit = git("commit-tree", tree, *options, folder=folder, environment=identity, stdin=message)
    git("update-ref", f"refs/heads/{branch}", commit, tip or "0" * len(commit), folder=folder)
    return commit
