"""What orchestration costs: the digits' graph on a running Prefect server, against `dvc repro` of the same stages, alternating.

    python benchmarks/orchestration.py [--rounds 3]

Networks are random and hardly trained, so that little but the stages' own start-up is in the way. `overhead per stage` is the
difference of the flow's time from `dvc repro --force`'s, both from command to end, divided by the stages; `within` leaves out what
a flow costs once, which is the difference where everything is up to date. The last row runs two stages at a time.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from measuring import ROOT, Workspace, alternating, median, report

STAGES = 18


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", help="not used")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        place = Path(scratch) / "orchestration"
        workspace = Workspace(place)
        shutil.copytree(ROOT / "pipelines", place / "pipelines", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "prefect.yaml", place)
        workspace.recipe(
            "--set", "weights.source=random", "augment.views=1", "baseline.epochs=1", "transfer.epochs=1", "finetune.epochs=1",
            "backbones=[mobilenet_v3_small, mobilenet_v2, squeezenet1_1]",
        )  # fmt: skip
        workspace.run("pipelines.schedule", "start")
        try:
            rows = _measured(workspace, given.rounds)
        finally:
            workspace.run("pipelines.schedule", "stop")
    report("orchestration", rows)


def _measured(workspace: Workspace, rounds: int) -> list[dict[str, object]]:
    workspace.run("dvc", "repro")
    commands = (["dvc", "repro"], ["pipelines.repro"], ["dvc", "repro", "--force"], ["pipelines.repro", "--force"],
                ["pipelines.repro", "--force", "--concurrency", "2"])  # fmt: skip
    works = [lambda command=command: workspace.run(*command) for command in commands]
    nothing, cached, forced, flows, together = alternating(rounds, *works)
    once = median([flow - plain for flow, plain in zip(cached, nothing, strict=True)])
    apart = [flow - plain for flow, plain in zip(flows, forced, strict=True)]
    return [
        {"what": "nothing to do", "dvc repro": round(median(nothing), 2), "flow": round(median(cached), 2)},
        {"what": f"all {STAGES} stages", "dvc repro": round(median(forced), 2), "flow": round(median(flows), 2)},
        {"what": "overhead per stage", "dvc repro": "", "flow": round(median(apart) / STAGES, 3)},
        {"what": "within", "dvc repro": "", "flow": round((median(apart) - once) / STAGES, 3)},
        {"what": "two at a time", "dvc repro": "", "flow": round(median(together), 2)},
    ]


if __name__ == "__main__":
    main()
