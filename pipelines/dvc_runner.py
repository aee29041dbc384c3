"""Run DVC and the `darkroom` command in a folder, each as a process that ends with the flow run."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from darkroom.config import dvc_process
from darkroom.core import shortage, strict_json
from darkroom.core.errors import EX_TEMPFAIL, ParamsError, WorkspaceError
from pipelines.process_groups import CommandResult, ProcessGroups

SCRIPT = Path(__file__).with_name("stage_graph.py")
RUN_CACHE = Path(__file__).with_name("run_cache.py")
RETRY_DELAYS = (5.0, 600.0)  # seconds before the first retry, doubled each time, and the maximum
# DVC's exit code does not tell a stage's exit code or the lock of another process; its message does
RETRYABLE = (
    f"exited with {EX_TEMPFAIL}", "it is being blocked by:", "Unable to acquire lock.",
    "dvc.lock' validation failed", "dvc.lock' is invalid",  # as it is while another DVC writes it; a damaged one was moved away
)  # fmt: skip
# two exit codes: of a command that SIGKILL has ended, and of a shell whose last command it has ended
KILLED = re.compile(rf"failed to reproduce '([^']+)': .*, exited with (?:{'|'.join(map(str, dvc_process.KILLED))})$")
UNCHANGED = ("didn't change, skipping", "is cached - skipping run, checking out outputs")
ADVICE = ("To track the changes with git", "git add ", "To enable auto staging", "dvc config core.autostage", "Use `dvc push` to")


@dataclass(frozen=True)
class Stage:
    """A stage of dvc.yaml."""

    upstream: list[str]  # the stages whose outputs it reads
    changed: bool  # it may have to run
    reasons: list[str]  # its own changes, in DVC's words
    outs: list[str]  # as dvc.yaml names them
    git_outs: list[str]  # those that DVC leaves to git
    files: list[str] = field(default_factory=list)  # what it reads and no stage makes
    inputs: list[str] = field(default_factory=list)  # outputs of other stages that it reads
    gathered: list[str] = field(default_factory=list)  # folders that it reads, with outputs of several stages
    portable: bool = False  # DVC keeps all that it reads of other stages, and all that it writes


def retry_delay(attempt: int) -> float:
    """Return the seconds between a failed attempt, counted from 0, and the next one."""
    return min(RETRY_DELAYS[0] * 2**attempt, RETRY_DELAYS[1])


def skip_reason(result: CommandResult) -> str:
    """Return DVC's line that says why it did not run the stage, or nothing where it ran."""
    return next((line for line in result.output if line.endswith(UNCHANGED)), "")


def _is_advice(line: str) -> bool:
    return line.lstrip().startswith(ADVICE)


class DvcRunner:
    """Runs DVC in a project's folder, with the code of that folder; `graph` is the folder in it that has the dvc.yaml."""

    def __init__(
        self, processes: ProcessGroups, folder: Path = Path(), environment: Mapping[str, str] | None = None, graph: Path = Path()
    ) -> None:
        self.processes, self.folder, self.graph = processes, folder, folder / graph
        self.environment = os.environ | dict(environment or {}) | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}", "PYTHONUNBUFFERED": "1",
        }  # fmt: skip
        source = (folder / "src").resolve()
        if source.is_dir() and source != Path("src").resolve():  # a worktree of the repository runs the code of its own commit
            self.environment["PYTHONPATH"] = os.pathsep.join([str(source), *filter(None, [os.environ.get("PYTHONPATH")])])

    def dvc(
        self,
        *arguments: str,
        on_line: Callable[[str], object] = lambda _: None,
        limit: float | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> CommandResult:
        """Run a command of DVC for at most `limit` seconds.

        The exit code is 75 where a retry may succeed: a lock of another process, or a stage that ends with
        this code or is killed.
        """
        command = ["-m", "dvc", *arguments]
        result = self._run(command, lambda line: _is_advice(line) or on_line(line), limit, environment, folder=self.graph)
        output = [line for line in result.output if not _is_advice(line)]
        if result.returncode and (killed := next(filter(None, map(KILLED.search, output)), None)):
            sentence = f"error: {shortage.killed(f'stage {killed[1]}')}"
            return replace(result, output=[*output, *sentence.splitlines()], returncode=EX_TEMPFAIL, killed=True)
        is_retryable = result.returncode and any(message in line for message in RETRYABLE for line in output)
        return replace(result, output=output, returncode=EX_TEMPFAIL if is_retryable else result.returncode)

    def darkroom(self, *arguments: str) -> str:
        """Return the output of a command of the package; a ParamsError where it fails."""
        result = self._run(["-m", "darkroom", *arguments], capture_stdout=True)
        if result.returncode:
            problem, _, remedy = result.error.removeprefix("error: ").partition("\n  remedy: ")
            problem = problem or f"exit code {result.returncode}"
            raise ParamsError(problem, remedy or f"see `darkroom {arguments[0]}`", result.retryable)
        return result.stdout.strip()

    def stages(self, targets: list[str], force: bool = False, retries: int = 0) -> dict[str, Stage]:
        """Return the stages that the targets need, in topological order.

        While another process of DVC holds a lock it is retried. WorkspaceError where DVC cannot read the
        graph.
        """
        for attempt in range(retries + 1):
            command = [str(SCRIPT.resolve()), json.dumps(targets), json.dumps(force)]
            result = self._run(command, capture_stdout=True, folder=self.graph)
            try:
                content = strict_json.loads(result.stdout)
            except ValueError:
                raise WorkspaceError("DVC cannot read the graph: " + "\n".join(result.output), "see `dvc status`") from None
            if "stages" in content:
                return {name: Stage(**fields) for name, fields in content["stages"].items()}
            if not result.retryable or attempt == retries:
                break
            print(f"{content['error']}\nretrying in {retry_delay(attempt):.0f} s")
            self.processes.stopped.wait(retry_delay(attempt))
        raise WorkspaceError(content["error"], "see `dvc stage list` and `dvc status`")

    def run_cache(self, action: str, *stages: str) -> tuple[dict[str, Any], bool]:
        """Return what `run_cache.py` prints, and whether a retry may succeed; where it fails the content is its `error`."""
        result = self._run([str(RUN_CACHE.resolve()), action, *stages], capture_stdout=True, folder=self.graph)
        try:
            return dict(strict_json.loads(result.stdout.splitlines()[-1])), result.retryable
        except (ValueError, IndexError):
            return {"error": result.error}, result.retryable

    def _run(
        self,
        arguments: list[str],
        on_line: Callable[[str], object] = lambda _: None,
        limit: float | None = None,
        environment: Mapping[str, str] | None = None,
        capture_stdout: bool = False,
        folder: Path | None = None,
    ) -> CommandResult:
        command = [sys.executable, "-P", *arguments]  # -P: no module of the project's folder hides one of DVC
        environment = self.environment | dict(environment or {})
        return self.processes.run(command, on_line, folder or self.folder, environment, limit, capture_stdout)
