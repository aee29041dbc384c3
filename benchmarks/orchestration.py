"""The cost of orchestration.

    python benchmarks/orchestration.py [--rounds 3] [--only processes|flows|pools]

`processes`: a stage that does nothing, as `dvc repro --single-item` in a process of its own, against the same command in a
process that is forked from one with DVC in memory. The difference is what a short-lived process costs per stage.

`flows`: the digits' graph on a running Prefect server against `dvc repro`, alternating. Networks are random and hardly trained,
so that little but the start-up of stages is measured. `overhead per stage` is the difference between flow and
`dvc repro --force`, from command to end, divided by the stages; `within` leaves out what a flow costs once, which is the
difference where everything is up to date. The last row runs two stages at a time.

`pools`: ITEMS stages that do nothing, or with `--whole` the digits as they are, from nothing: `dvc repro` against
`darkroom flow repro --pool` with one and two workers on this machine, a bare repository and a folder as remotes. `processor s` is
that of the flow, of workers and of the server from the beginning of the flow to its end, `a stage` the difference by stage.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
from dvc.cli import main as dvc_main
from dvc.commands import repro as _repro  # noqa: F401  what a stage needs of DVC is in memory before the fork
from dvc.repo import reproduce as _reproduce  # noqa: F401
from dvc.stage import run as _run  # noqa: F401
from measuring import ROOT, Usage, Workspace, alternating, median, report, seconds

STAGES = 18
ITEMS = 6
SHORT = (
    "weights.source=random", "augment.views=1", "baseline.epochs=1", "transfer.epochs=1", "finetune.epochs=1",
    "backbones=[mobilenet_v3_small, mobilenet_v2, squeezenet1_1]",
)  # fmt: skip
ITEM = ["--wait-for-lock", "repro", "--single-item", "--force", "stage"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", help="not used")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("processes", "flows", "pools"))
    parser.add_argument("--whole", action="store_true", help="pools: run the digits")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        if options.only in (None, "processes"):
            report("processes", measure_processes(Path(scratch) / "processes", 8 * options.rounds))
        if options.only in (None, "flows"):
            report("orchestration", measure_flows(Path(scratch) / "orchestration", options.rounds))
        if options.only in (None, "pools"):
            report("pools", measure_pools(Path(scratch), options.whole))


def measure_processes(folder: Path, rounds: int) -> list[dict[str, object]]:
    folder.mkdir()
    with contextlib.chdir(folder):
        (folder / "dvc.yaml").write_text("stages:\n  stage:\n    cmd: echo > out\n    outs: [out]\n")
        subprocess.run(["git", "init", "-q"], check=True)
        subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], check=True)

        def run_process() -> None:
            subprocess.run([sys.executable, "-m", "dvc", *ITEM], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def fork() -> None:
            pid = os.fork()
            if pid == 0:
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, 1)
                os.dup2(null, 2)
                os._exit(dvc_main(ITEM))
            if os.waitpid(pid, 0)[1]:
                raise SystemExit("a forked stage failed")

        process, forked = alternating(rounds, lambda: seconds(run_process), lambda: seconds(fork))
    differences = [first - second for first, second in zip(process, forked, strict=True)]
    return [
        {"s a stage": name, "median": round(median(values), 3), "min": round(min(values), 3), "max": round(max(values), 3)}
        for name, values in {"process": process, "forked": forked, "difference": differences}.items()
    ]


def measure_flows(folder: Path, rounds: int) -> list[dict[str, object]]:
    workspace = Workspace(folder)
    shutil.copytree(ROOT / "pipelines", folder / "pipelines", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "prefect.yaml", folder)
    workspace.recipe("--set", *SHORT)
    workspace.run("pipelines.schedule", "start")
    try:
        workspace.run("dvc", "repro")
        commands = (["dvc", "repro"], ["pipelines.repro"], ["dvc", "repro", "--force"], ["pipelines.repro", "--force"],
                    ["pipelines.repro", "--force", "--concurrency", "2"])  # fmt: skip
        runs = [lambda command=command: workspace.run(*command) for command in commands]
        plain_noop, flow_noop, plain, flow, concurrent = alternating(rounds, *runs)
    finally:
        workspace.run("pipelines.schedule", "stop")
    once = median([flow_s - plain_s for flow_s, plain_s in zip(flow_noop, plain_noop, strict=True)])
    overhead = median([flow_s - plain_s for flow_s, plain_s in zip(flow, plain, strict=True)])
    return [
        {"seconds": "nothing to do", "dvc repro": round(median(plain_noop), 2), "flow": round(median(flow_noop), 2)},
        {"seconds": f"all {STAGES} stages", "dvc repro": round(median(plain), 2), "flow": round(median(flow), 2)},
        {"seconds": "overhead per stage", "dvc repro": "", "flow": round(overhead / STAGES, 3)},
        {"seconds": "within", "dvc repro": "", "flow": round((overhead - once) / STAGES, 3)},
        {"seconds": "two at a time", "dvc repro": "", "flow": round(median(concurrent), 2)},
    ]


def measure_pools(folder: Path, is_whole: bool) -> list[Mapping[str, object]]:
    local = pool_workspace(folder / "local", is_whole).measure("dvc", "repro", DARKROOM_TRACKING="off")
    rows: list[Mapping[str, object]] = [
        {"run": "dvc repro", "s": round(local.seconds, 1), "ratio": 1.0, "processor s": round(local.cpu, 1), "a stage": ""}
    ]
    for count in (1, 2):
        workspace = pool_workspace(folder / f"pool-{count}" / "project", is_whole)
        usage = run_in_pool(workspace, folder / f"pool-{count}", count)
        stages = len((workspace.place / "dvc.lock").read_text().split("    cmd:")) - 1
        ratio, each = usage.seconds / local.seconds, (usage.cpu - local.cpu) / stages
        rows.append({
            "run": f"{count} worker{'s' * (count > 1)}", "s": round(usage.seconds, 1), "ratio": round(ratio, 2),
            "processor s": round(usage.cpu, 1), "a stage": round(each, 1),
        })  # fmt: skip
    return rows


def pool_workspace(place: Path, is_whole: bool) -> Workspace:
    workspace = Workspace(place)
    if not is_whole:
        stages = {f"stage-{i}": {"cmd": f"echo {i} > {i}.txt", "deps": ["params.yaml"], "outs": [f"{i}.txt"]} for i in range(ITEMS)}
        (place / "dvc.yaml").write_text(json.dumps({"stages": stages}))  # JSON is YAML
    return workspace


def run_in_pool(workspace: Workspace, folder: Path, count: int) -> Usage:
    """Return what a flow took whose stages run on a number of workers; all processes have ended."""
    place, environment = workspace.place, workspace.environment
    shutil.copytree(ROOT / "pipelines", place / "pipelines", ignore=shutil.ignore_patterns("__pycache__"))
    workspace.run("dvc", "remote", "add", "-d", "store", str(folder / "store"))
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    for words in (("init", "-q", "--bare", str(folder / "remote.git")), ("remote", "add", "origin", str(folder / "remote.git")),
                  ("add", "-A"), (*who, "commit", "-qm", "a graph")):  # fmt: skip
        subprocess.run(["git", *words], cwd=place, check=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    environment |= {
        "DARKROOM_TRACKING": "off",
        "PREFECT_HOME": str(folder / "home"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
    }
    processes: list[subprocess.Popen[bytes]] = []
    try:
        with (folder / "log").open("wb") as log:

            def start(*command: str) -> None:
                options = {"cwd": place, "env": environment, "stdout": log, "stderr": log, "start_new_session": True}
                processes.append(subprocess.Popen([sys.executable, "-m", *command], **options))  # type: ignore[call-overload]

            start("prefect", "server", "start", "--host", "127.0.0.1", "--port", port)
            wait_until(lambda: ask(f"{environment['PREFECT_API_URL']}/health") is True)
            for number in range(count):
                start("pipelines.pool_worker", "machines", "--folder", str(folder / f"worker-{number}"))
            workers = f"{environment['PREFECT_API_URL']}/work_pools/machines/workers/filter"
            wait_until(lambda: len([one for one in ask(workers, {}) or [] if one["status"] == "ONLINE"]) == count)
            before = processor_time(processes)
            elapsed = workspace.run("pipelines.repro", "--pool", "machines")
            return Usage(elapsed, processor_time(processes) - before, 0)
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait()


def ask(address: str, content: object = None) -> Any:
    """Return what a server answers; None where it does not."""
    data = None if content is None else json.dumps(content).encode()
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"})
    with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=10) as response:
        return json.loads(response.read())


def wait_until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.5)


def processor_time(running: Sequence[subprocess.Popen[bytes]]) -> float:
    """Return the seconds of all cores that these processes took, and those that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = usage.ru_utime + usage.ru_stime
    for one in running:
        for process in (psutil.Process(one.pid), *psutil.Process(one.pid).children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                total += sum(process.cpu_times()[:4])  # its own, and of its children that have ended
    return total


if __name__ == "__main__":
    main()
