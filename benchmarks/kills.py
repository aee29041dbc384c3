"""Kill `darkroom repro` with SIGKILL at random moments until it has ended, and compare every output with an undisturbed run's.

    python benchmarks/kills.py FOLDER [--moments 50] [--seed 0] [--images 30]

The project has `--images` photographs of each class, a backbone that is pretrained, three folds, and MLflow; every stage of
the graph runs. A sweep runs `darkroom repro` again and again, each time killed with all its processes at a random moment, until
it ends by itself. Half of the moments are a random time after the start of the command, which finds long stages. The others are
a random time within a stage, one of those that have had the fewest kills, so that no stage is left out. The uploader of records
is killed in every other moment. Epochs are counted in MLflow: one that ended
and ran again counts as repeated. A kill may repeat one epoch, or as many shorter ones as take `resume.LONGEST` seconds.
The exit code is 1 where more are repeated, an output is lost, or a `.partial` is left over. An output is lost where it does not
have the bytes of the undisturbed run; what measures time (`models/cost`, the leaderboard, the report) is left out.
"""

from __future__ import annotations

import argparse
import math
import random
import re
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import psutil
from measuring import Workspace, report

from darkroom.config import dvc_graph
from darkroom.core.errors import WorkspaceError
from darkroom.training import resume

VARY = ("models/cost", "reports/leaderboard.csv", "reports/cost.csv", "reports/report.html")
SETTINGS = (  # one thread: on a busy machine two wait for each other
    "compute.threads=1", "backbones=[mobilenet_v3_small]", "ingest.image_size=32", "augment.views=3", "weights.source=pretrain",
    "weights.pretrain_on=glyphs", "weights.pretrain_images=400", "weights.pretrain_epochs=6", "baseline.epochs=20",
    "transfer.epochs=20", "finetune.epochs=10", "cross_validation=3", "diagnose.robustness_images=60",
)  # fmt: skip
LONGEST = 30.0  # seconds between the start of `darkroom repro` and a kill, at first
LIMIT = 1800.0  # seconds for a sweep
STAGE = re.compile(r"Running stage '(?:[^':]*:)?([^':]+)'")


def copy_photos(source: Path, target: Path, count: int) -> None:
    """Copy some photographs of each class."""
    for folder in sorted(path for path in source.iterdir() if path.is_dir()):
        (target / folder.name).mkdir(parents=True)
        for file in sorted(folder.glob("*.jpg"))[:count]:
            shutil.copy(file, target / folder.name)


def outputs(place: Path) -> dict[str, str]:
    """Return the md5 of every output in dvc.lock that two runs have in common."""
    stages = dvc_graph.read_lock(place / "dvc.lock").values()
    return {path: md5 for stage in stages for path, md5 in stage.outs.items() if not path.startswith(VARY)}


class Epochs(NamedTuple):
    """The epochs of a stage that ended more than once, and the median of the seconds of an epoch."""

    repeated: int
    seconds: float

    def allowed(self, kills: int) -> int:
        """Return how many may be repeated by so many kills in the stage."""
        return kills * max(1, math.ceil(resume.LONGEST / max(self.seconds, 0.001)))


def epochs_of(rows: Iterable[tuple[str, str, int, int]]) -> dict[str, Epochs]:
    """Return the epochs by stage from rows of stage, run, epoch, and when it ended in milliseconds."""
    rows = sorted(rows)
    repeated: Counter[str] = Counter()
    for (stage, _), count in Counter((stage, epoch) for stage, _, epoch, _ in rows).items():
        repeated[stage] += count - 1
    seconds: dict[str, list[float]] = {stage: [] for stage in repeated}
    for (stage, run, epoch, ended), after in pairwise(rows):
        if after[:3] == (stage, run, epoch + 1):
            seconds[stage].append((after[3] - ended) / 1000)
    return {stage: Epochs(count, statistics.median(seconds[stage] or [0.0])) for stage, count in repeated.items()}


def read_epochs(place: Path) -> dict[str, Epochs]:
    """Return the epochs by stage, as MLflow has them; each that ran counts, also in a run that was killed."""
    query = (
        "SELECT tags.value, metrics.run_uuid, metrics.step, metrics.timestamp FROM metrics"
        " JOIN tags ON tags.run_uuid = metrics.run_uuid"
        " WHERE metrics.key = 'images_per_second' AND tags.key = 'darkroom.stage'"
    )
    with closing(sqlite3.connect(place / "mlflow.db")) as connection:
        return epochs_of(connection.execute(query).fetchall())


def processes(workspace: Workspace) -> list[psutil.Process]:
    """Return the processes that work in the project."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(workspace.place):
                found.append(process)
        except psutil.Error:
            continue
    return found


def kill(workspace: Workspace, with_uploader: bool) -> None:
    """Kill all processes of the project at once, or all but the uploader."""
    stopped = []
    for process in processes(workspace):
        try:
            if with_uploader or "darkroom.tracking.uploader_process" not in process.cmdline():
                process.suspend()  # else a parent would still see that its child was killed
                stopped.append(process)
        except psutil.Error:
            continue
    for process in stopped:
        try:
            process.kill()
        except psutil.Error:
            continue
    _, alive = psutil.wait_procs(stopped, 60)
    assert not alive


def repro(workspace: Workspace, log: Path, seconds: float, within: str | None = None) -> tuple[int | None, dict[str, float]]:
    """Run `darkroom repro` for some seconds, counted from the start of the stage `within` where one is given.

    Return its exit code, None where it still runs, and for each stage that it began the seconds after the command's start.
    """
    began: dict[str, float] = {}
    with log.open("w") as file:
        command = [sys.executable, "-m", "darkroom", "repro"]
        process = subprocess.Popen(
            command, cwd=workspace.place, env=workspace.environment, stdout=file, stderr=file, start_new_session=True
        )
        start = time.monotonic()
        while True:
            taken = time.monotonic() - start
            for stage in STAGE.findall(log.read_text(errors="replace")):
                began.setdefault(stage, taken)
            if (code := process.poll()) is not None:
                return code, began
            origin = began.get(within, LIMIT) if within else 0.0
            if taken >= origin + seconds:
                return None, began
            time.sleep(0.05)


def last_stage(began: Mapping[str, float]) -> str:
    return next(reversed(began), "before the first")


def done_stages(place: Path) -> set[str]:
    """Return the stages in dvc.lock, which a killed DVC may have left without content."""
    try:
        return set(dvc_graph.read_lock(place / "dvc.lock"))
    except WorkspaceError:
        return set()


def prepare(place: Path, photos: Path) -> Workspace:
    """Make a project that has not run."""
    workspace = Workspace(place)
    shutil.copytree(photos, place / "photos")
    workspace.recipe("photos", "--data", "photos", "--set", *SETTINGS)
    return workspace


def run_undisturbed(place: Path, source: Path, images: int) -> tuple[dict[str, str], dict[str, float]]:
    """Copy photographs to PLACE/photos, run the graph once; return its outputs by path, and the seconds of each stage."""
    copy_photos(source, place / "photos", images)
    workspace = prepare(place / "undisturbed", place / "photos")
    log = workspace.place / "repro.log"
    started = time.monotonic()
    code, began = repro(workspace, log, LIMIT)
    taken = time.monotonic() - started
    if code != 0:
        raise SystemExit(f"an undisturbed `darkroom repro` ended with code {code}:\n{log.read_text()[-3000:]}")
    expected = outputs(workspace.place)
    finish(workspace)
    print(f"an undisturbed run: {taken:.0f} s, {len(expected)} outputs", flush=True)
    ends = [*list(began.values())[1:], taken]
    return expected, {stage: end - start for (stage, start), end in zip(began.items(), ends, strict=True)}


def differing(expected: dict[str, str], actual: dict[str, str]) -> list[str]:
    """Return the paths of outputs that differ."""
    return sorted(path for path in expected.keys() | actual.keys() if expected.get(path) != actual.get(path))


def draw_stage(draw: random.Random, rows: Sequence[Mapping[str, object]], stages: Iterable[str]) -> str | None:
    """Return one of the stages that have had the fewest kills, or None in half of the cases."""
    counts = Counter(str(row["stage"]) for row in rows)
    candidates = sorted(stages)
    if not candidates or draw.random() < 0.5:
        return None
    fewest = min(counts[stage] for stage in candidates)
    return draw.choice([stage for stage in candidates if counts[stage] == fewest])


def draw_moment(
    draw: random.Random, rows: Sequence[Mapping[str, object]], place: Path, durations: Mapping[str, float], stops: int
) -> tuple[float, str | None]:
    """Return seconds, and the stage from whose start they count, None for that of the command.

    `durations` are the seconds of undisturbed stages. A stage that stopped three times gets twice the time, since to start again
    takes a share of it.
    """
    within = draw_stage(draw, rows, durations.keys() - done_stages(place))
    longest = durations[within] if within else LONGEST * 2 ** (stops // 3)
    return draw.uniform(0 if within else 0.5, longest), within


def sweep(
    workspace: Workspace, draw: random.Random, number: int, durations: Mapping[str, float], rows: list[dict[str, object]]
) -> None:
    """Run `darkroom repro` to its end through kills; add a row for each. `durations` are the seconds of undisturbed stages."""
    log = workspace.place / "repro.log"
    started = time.monotonic()
    kills: Counter[str] = Counter()
    stage = ""
    while time.monotonic() - started < LIMIT:
        seconds, within = draw_moment(draw, rows, workspace.place, durations, kills[stage])
        code, began = repro(workspace, log, seconds, within)
        stage = last_stage(began)
        repaired = [line for line in log.read_text().splitlines() if "damaged" in line]
        if repaired:
            print(f"sweep {number}: {'; '.join(repaired)}", flush=True)
        if code is not None:
            if code:
                raise SystemExit(f"`darkroom repro` after a kill ended with code {code}:\n{log.read_text()[-3000:]}")
            return
        kill(workspace, with_uploader=draw.random() < 0.5)
        kills[stage] += 1
        rows.append({"sweep": number, "moment": round(seconds, 1), "drawn within": within, "stage": stage})
        print(f"sweep {number}: killed after {seconds:.1f} s{f' of {within}' if within else ''} in {stage}", flush=True)
    raise SystemExit(f"a sweep has taken more than {LIMIT:.0f} s")


def finish(workspace: Workspace) -> dict[str, Epochs]:
    """Upload what is left, end the uploader, and return the epochs."""
    workspace.run("darkroom", "sync")
    epochs = read_epochs(workspace.place)
    kill(workspace, with_uploader=True)
    return epochs


def main() -> None:
    parser = argparse.ArgumentParser("python benchmarks/kills.py", description=__doc__)
    parser.add_argument("folder", type=Path, help="photographs, one folder per class")
    parser.add_argument("--moments", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--images", type=int, default=30, help="of each class")
    options = parser.parse_args()
    draw = random.Random(options.seed)
    rows: list[dict[str, object]] = []
    lost: list[str] = []
    too_many: list[str] = []
    left_over: list[str] = []
    repeated: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch).resolve()
        expected, durations = run_undisturbed(place, options.folder, options.images)
        number = 0
        while len(rows) < options.moments:
            number += 1
            workspace = prepare(place / f"sweep-{number}", place / "photos")
            sweep(workspace, draw, number, durations, rows)
            different = differing(expected, outputs(workspace.place))
            lost += [f"sweep {number}: {path}" for path in different]
            kills = Counter(str(row["stage"]) for row in rows if row["sweep"] == number)
            for stage, epochs in finish(workspace).items():
                repeated[stage] += epochs.repeated
                if epochs.repeated > epochs.allowed(kills[stage]):
                    fact = f"{epochs.repeated} epochs of {epochs.seconds:.1f} s by {kills[stage]} kills"
                    too_many.append(f"sweep {number}: {stage}, {fact}")
            left = sorted(str(path.relative_to(workspace.place)) for path in workspace.place.rglob("*.partial"))
            print(f"sweep {number}: {len(different)} of {len(expected)} outputs differ; left over: {', '.join(left) or 'nothing'}")
            left_over += [f"sweep {number}: {path}" for path in left]
            shutil.rmtree(workspace.place)
    by_stage = Counter(str(row["stage"]) for row in rows)
    stages = [*durations, *sorted(by_stage.keys() - durations.keys())]
    table = [{"stage": stage, "kills": by_stage[stage], "epochs repeated": repeated[stage]} for stage in stages]
    faults = {"lost": lost, "repeated more than once": too_many, "left over": left_over}
    report("kills", table, {"moments": rows, **faults, "undisturbed": durations, "seed": options.seed})
    summary = "; ".join(f"{key}: {', '.join(items) or 'nothing'}" for key, items in faults.items())
    print(f"{len(rows)} kills in {number} sweeps; {summary}")
    raise SystemExit(1 if any(faults.values()) else 0)


if __name__ == "__main__":
    main()
