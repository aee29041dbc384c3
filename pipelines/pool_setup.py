"""What a run in a work pool of Prefect's needs (`pool_runs`): the pool, its deployment, and the project where workers find it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

from prefect import get_client
from prefect.client.schemas.objects import WorkerStatus
from prefect.exceptions import ObjectNotFound

from darkroom.core.errors import WorkspaceError, without_login
from pipelines import pool_stage, worktree
from pipelines.dvc_runner import DvcRunner, Stage
from pipelines.pool_runs import Pool

REFS = "refs/darkroom"  # of the git repository, for the commits of runs that are going on
HEARTBEAT = 30  # seconds between the heartbeats of a run, by which the flow that waits for it sees that it lives
QUIET = {"GIT_TERMINAL_PROMPT": "0"}  # git asks nobody for a password


@contextmanager
def connect(name: str, runner: DvcRunner, graph: dict[str, Stage], pipeline: str) -> Iterator[Pool]:
    """Check what a run in a pool needs, and give the repository the commit of what is here; the ref goes at the end.

    Raises WorkspaceError, with the remedy, where something lacks.
    """
    check_pool(name)
    if not runner.dvc("remote", "list").output:
        remedy = "`dvc remote add -d NAME ADDRESS`, which writes .dvc/config"
        raise WorkspaceError("DVC has no remote, by which data reach other machines", remedy)
    folder = runner.folder
    remote, address = _git_remote(folder)
    commit = worktree.snapshot(folder)
    ref = f"{REFS}/{hashlib.sha256(pipeline.encode()).hexdigest()[:12]}"
    try:
        worktree.git("push", "--quiet", "--force", remote, f"{commit}:{ref}", folder=folder, environment=QUIET)
    except WorkspaceError as error:
        raise WorkspaceError(
            f"the commit of this run cannot be sent to the git remote {remote}: {error.problem}",
            f"`git push {remote} HEAD:{ref}` must work here; workers clone from there", True,
        ) from error  # fmt: skip
    try:
        project = worktree.git("rev-parse", "--show-prefix", folder=folder).rstrip("/")
        parameters = {"repository": without_login(address), "ref": ref, "commit": commit, "project": project}
        yield Pool(name, runner, pipeline, parameters, _portable(graph, folder), _deploy(name))
    finally:
        worktree.git("push", "--quiet", "--delete", remote, ref, folder=folder, check=False)


def check_pool(name: str) -> None:
    """Raise WorkspaceError where workers cannot get a run: no server of its own, no such pool, or nobody who polls it."""
    worker = f"`darkroom worker {name}`, on a machine that has PREFECT_API_URL of this server"
    if not os.environ.get("PREFECT_API_URL"):
        raise WorkspaceError(
            "this flow has a temporary Prefect server, which no worker knows",
            "`make schedule` starts one, or set PREFECT_API_URL to the team's, here and for `darkroom worker`",
        )
    with get_client(sync_client=True) as client:
        try:
            pool = client.read_work_pool(name)
        except ObjectNotFound as error:
            remedy = f"start a worker, which makes it: {worker}"
            raise WorkspaceError(f"the Prefect server has no work pool {name}", remedy) from error
        if pool.is_paused:
            raise WorkspaceError(f"the work pool {name} is paused", f"`prefect work-pool resume {name}`")
        if not any(worker.status == WorkerStatus.ONLINE for worker in client.read_workers_for_work_pool(name)):
            raise WorkspaceError(f"no worker polls the work pool {name}", f"start one: {worker}", True)


def _git_remote(folder: Path) -> tuple[str, str]:
    """Return the name and the address of the git remote from which workers clone.

    It is that of the branch, else `origin`, else the only one.
    """
    names = worktree.git("remote", folder=folder).splitlines()
    branch = worktree.git("symbolic-ref", "--quiet", "--short", "HEAD", folder=folder, check=False)
    own = worktree.git("config", f"branch.{branch}.remote", folder=folder, check=False) if branch else ""
    name = next((name for name in (own, "origin") if name in names), names[0] if len(names) == 1 else "")
    if not name:
        remedy = "`git remote add origin ADDRESS`, an address that workers reach"
        raise WorkspaceError("git has no remote from which workers could clone", remedy)
    return name, worktree.git("remote", "get-url", name, folder=folder)


def _portable(graph: dict[str, Stage], folder: Path) -> set[str]:
    """Return the stages that another machine can run: git has all that they read, but what DVC's remote has."""
    files = sorted({file for stage in graph.values() if stage.portable for file in stage.files})
    inside = [file for file in files if not os.path.isabs(file) and ".." not in Path(file).parts]
    tracked = worktree.git("ls-files", "--", *inside, folder=folder).splitlines() if inside else []
    others = ("ls-files", "--others", "--exclude-per-directory=.dvcignore", "--", *inside)  # what git ignores may still be read
    untracked = worktree.git(*others, folder=folder).splitlines() if inside else []
    here = {
        file for file in files
        if file not in inside or _has(untracked, file) or not _has(tracked, file)
    }  # fmt: skip
    return {name for name, stage in graph.items() if stage.portable and here.isdisjoint(stage.files)}


def _has(paths: list[str], file: str) -> bool:
    return any(path == file or path.startswith(f"{file}/") for path in paths)


def _deploy(name: str) -> UUID:
    """Create or update the deployment of the flow `stage` in a pool. It names a module, no path: workers have the same Darkroom."""
    with get_client(sync_client=True) as client:
        return client.create_deployment(
            flow_id=client.create_flow_from_name(pool_stage.NAME), name=name, work_pool_name=name,
            entrypoint=f"{pool_stage.__name__}.{pool_stage.stage.fn.__name__}",
            description="A stage of a project, started by `darkroom flow repro --pool`.",
            job_variables={"env": {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT)}},
        )  # fmt: skip
