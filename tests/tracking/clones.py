"""Small projects whose stages write records for MLflow, and do nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

GRAPH = """\
stages:
  ingest: {cmd: python stage.py ingest lr, deps: [lr], outs: [data/ingested]}
  augment: {cmd: python stage.py augment data/ingested, deps: [data/ingested], outs: [data/augmented]}
  baseline: {cmd: python stage.py baseline data/augmented, deps: [data/augmented], outs: [models/baseline]}
"""
STAGE = """
import sys
from pathlib import Path
from darkroom.tracking import records
name, source = sys.argv[1:]
rate = float(Path("lr").read_text())
with records.start_run(name, {"baseline.lr": rate}, [source]) as run:
    for epoch in range(1, 4):
        run.log_epoch({"epoch": epoch, "val_loss": rate / epoch})
    out = {"ingest": "data/ingested", "augment": "data/augmented", "baseline": "models/baseline"}[name]
    Path(out).parent.mkdir(exist_ok=True)
    Path(out).write_text(f"{name} {rate}")
    run.log_artifact(Path(out))
"""


def make_clones(place: Path, rates: tuple[str, ...], environment: dict[str, str]) -> list[Path]:
    """Make projects that differ in a learning rate; their stages write records, and do nothing else."""
    first = place / "clone 0"
    first.mkdir()
    (first / "dvc.yaml").write_text(GRAPH)
    (first / "stage.py").write_text(STAGE)
    (first / "params.yaml").write_text("{}")
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], cwd=first, env=environment, check=True)
    clones = [first, *(Path(shutil.copytree(first, place / f"clone {i}")) for i in range(1, len(rates)))]
    for clone, rate in zip(clones, rates, strict=True):
        (clone / "lr").write_text(rate)
    return clones
