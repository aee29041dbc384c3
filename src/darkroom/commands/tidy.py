"""Remove what backbones that params.yaml no longer lists left behind, and scratch files of stages that were killed."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from darkroom.config import params
from darkroom.config.dvc_graph import outputs
from darkroom.core.atomic import PARTIAL


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser("darkroom tidy", description=__doc__)
    parser.add_argument("--dry-run", action="store_true", help="only say what would be removed")
    given = parser.parse_args(arguments)
    found = leftovers(params.read().backbones)
    for path in found:
        size = sum(file.stat().st_size for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())
        print(f"{'would remove' if given.dry_run else 'removed'} {path} ({size / 2**20:.1f} MiB)")
        if not given.dry_run:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    if not found:
        print("nothing to remove")
    elif not given.dry_run:
        print("the next `dvc repro` evaluates again; DVC's cache still holds these: `dvc gc -w` frees it")
    return 0


def leftovers(backbones: list[str]) -> list[Path]:
    """Return what can go: outputs that dvc.lock lists for backbones that params.yaml does not, and files of killed stages."""
    found = []
    for stage, outs in outputs().items():
        name, _, backbone = stage.partition("@")
        if backbone and name != "fetch" and backbone not in backbones:
            found += [Path(out["path"]) for out in outs]
    for folder in (Path("data"), Path("models"), Path("reports")):
        found += [path for path in folder.rglob(f".*{PARTIAL}") if "raw" not in path.parts and not _in_use(path, -3)]
    found += [path for path in Path(".darkroom/maps").glob("*") if path.name not in backbones]
    found += [path for path in Path(".darkroom/scratch/sources").glob("*-*") if not _in_use(path, 0, "-")]
    return sorted({path for path in found if path.exists()})


def _in_use(path: Path, part: int, separator: str = ".") -> bool:
    """Tell whether the process whose number is in the name still runs."""
    import psutil

    pid = path.name.split(separator)[part]
    return pid.isdigit() and psutil.pid_exists(int(pid))
