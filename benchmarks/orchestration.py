"""The cost of orchestration.

    python benchmarks/orchestration.py [--rounds 3] [--only processes]

`processes`: a stage that does nothing, as `dvc repro --single-item` in a process of its own, against the same command in a
process that is forked from one with DVC in memory. The difference is what a short-lived process costs per stage.

`flows`: the digits' graph on a running Prefect server against `dvc repro`, alternating. Networks are random and hardly trained,
so that little but the start-up of stages is measured. `overhead per stage` is the difference between flow and
`dvc repro --force`, from command to end, divided by the stages; `within` leaves out what a flow costs once, which is the
difference where everything is up to date. The last row runs two stages at a time.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from dvc.cli import main as dvc_main
from dvc.commands import repro as _repro  # noqa: F401  what a stage needs of DVC is in memory before the fork
from dvc.repo import reproduce as _reproduce  # noqa: F401
from dvc.stage import run as _run  # noqa: F401
from measuring import ROOT, Workspace, alternating, median, report, seconds

STAGES = 18
ITEM = ["--wait-for-lock", "repro", "--single-item", "--force", "stage"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", help="not used")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("processes", "flows"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        if options.only != "flows":
            report("processes", measure_processes(Path(scratch) / "processes", 8 * options.rounds))
        if options.only != "processes":
            report("orchestration", measure_flows(Path(scratch) / "orchestration", options.rounds))


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
    workspace.recipe(
        "--set", "weights.source=random", "augment.views=1", "baseline.epochs=1", "transfer.epochs=1", "finetune.epochs=1",
        "backbones=[mobilenet_v3_small, mobilenet_v2, squeezenet1_1]",
    )  # fmt: skip
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


if __name__ == "__main__":
    main()
