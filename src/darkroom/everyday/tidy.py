"""Remove what backbones that params.yaml no longer lists left behind, and scratch files of stages that were killed."""

from __future__ import annotations

import argparse
import re
import shutil
from pathlib import Path

from darkroom import params

ITEM = "${item.backbone}"


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
    """Return the outputs of stages of backbones that are not listed, by the paths of dvc.yaml, and stale scratch files."""
    found = []
    for stage in params.read_yaml(Path("dvc.yaml"))["stages"].values():
        for out in stage.get("outs", []):
            out = out if isinstance(out, str) else next(iter(out))
            if ITEM not in out:
                continue
            before, after = out.split(ITEM)
            folder = Path(before).parent if not before.endswith("/") else Path(before)
            for path in sorted(folder.iterdir()) if folder.is_dir() else []:
                match = re.fullmatch(re.escape(before) + r"([^/.][^/]*?)" + re.escape(after), path.as_posix())
                if match and match[1] not in backbones:
                    found.append(path)
    return found + sorted(path for path in Path(".darkroom/scratch").glob("*.npy") if not _in_use(path))


def _in_use(path: Path) -> bool:
    import psutil

    pid = path.stem.split("-")[-2]
    return pid.isdigit() and psutil.pid_exists(int(pid))
