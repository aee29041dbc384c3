"""What a kill or a power failure leaves of DVC's files: those that DVC refuses, and those that it would trust.

DVC does not wait until its files are on the disk, trusts an object of its cache by its name, and an output by its size and the
time of its last change. A file that was written shortly before a power failure may be empty, cut off or full of zeros.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import yaml

from darkroom.config.dvc_graph import DVC, LOCK, cache_folder, load_yaml, md5
from darkroom.core import atomic, strict_json
from darkroom.core.errors import WorkspaceError
from darkroom.core.locks import hold

SCHEMA = "2.0"  # of dvc.lock
WRITTEN = 0.5  # seconds in which DVC has written it
DAMAGED_LOCK = Path(".darkroom/dvc.lock.damaged")
RUNNING = DVC / "tmp/rwlock"  # the paths that running stages use
GUARD = DVC / "tmp/rwlock.lock"  # held by DVC while it writes that
BEGAN = Path(".darkroom/repro-began")  # there while a run is under way: the time of its start, in seconds since 1970
REFUSED = {"{": "DVC", "}": "DVC", "%": "MLflow"}  # progress bars and settings that take the path for a template
OUTPUTS = ("data", "models", "reports")
OBJECT = re.compile(r"[0-9a-f]{30}(\.dir)?")  # the name of a file in the cache, without the first two digits of its md5
MICROSECOND = 1000  # ns; DVC compares times as floating-point numbers


@contextmanager
def guard(tell: Callable[[str], object]) -> Iterator[None]:
    """Repair what an earlier run has left, and say so; once the block has ended, wait until all its files are on the disk.

    A block that a kill or a power failure ends leaves `BEGAN`: the next one examines whatever was written since. Raises
    WorkspaceError where DVC or MLflow cannot work.
    """
    for character, program in REFUSED.items():
        if character in str(Path.cwd()):
            raise WorkspaceError(
                f"{program} fails in a folder whose path has {character}: {Path.cwd()}", "rename it, or move the project"
            )
    since = _began()
    for sentence in repair() + (_examine(since) if since is not None else []):
        tell(sentence)
    with atomic.new_file(BEGAN) as working:
        working.write_text(str(time.time() if since is None else since), encoding="utf-8")
    try:
        yield
    finally:
        os.sync()
        BEGAN.unlink(missing_ok=True)


def _began() -> float | None:
    """Return when the run began that did not come to its end, if there is one."""
    try:
        return float(BEGAN.read_text(encoding="utf-8"))
    except OSError:
        return None
    except ValueError:
        return 0.0


def _examine(since: float) -> list[str]:
    """Delete objects of DVC's cache that were written since then and are damaged; return a sentence about them.

    Outputs that were written since then get another time of change, by a microsecond, so that DVC hashes them again.
    """
    objects = [path for path in _written(cache_folder() / "files/md5", since) if OBJECT.fullmatch(path.name)]
    damaged = [path for path in objects if md5(path) != path.parent.name + path.stem]
    damaged += [path for path in _written(cache_folder() / "runs", since) if not _is_run(path)]
    for path in damaged:
        path.unlink()
    for folder in (cache_folder() / "runs").glob("*/*"):
        with suppress(OSError):  # it is not empty; where it is, DVC fails
            folder.rmdir()
    for name in OUTPUTS:
        for path in _written(Path(name), since):
            state = path.stat()
            with suppress(OSError):
                os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + MICROSECOND))
    if not damaged:
        return []
    return [
        f"damaged files of DVC's cache, as after a power failure: {len(damaged):,}; they are deleted, and made again where needed"
    ]


def _written(folder: Path, since: float) -> Iterator[Path]:
    """Yield the files in a folder that were changed since then."""
    for path in folder.rglob("*"):
        with suppress(OSError):
            if path.is_file() and not path.is_symlink() and path.stat().st_mtime >= since:
                yield path


def _is_run(path: Path) -> bool:
    """Return whether a file of DVC's run cache can be read."""
    try:
        content = load_yaml(path.read_text(encoding="utf-8"))
        return bool(content["cmd"]) and all(item["path"] for item in content.get("outs", []))
    except (ValueError, yaml.YAMLError, KeyError, TypeError):
        return False


def repair() -> list[str]:
    """Move files that DVC would refuse out of its way; return a sentence about each.

    Without dvc.lock DVC finds the results in its run cache, and runs no stage again but those with a side effect.
    """
    sentences = []
    if is_lock_damaged():
        DAMAGED_LOCK.parent.mkdir(exist_ok=True)
        shutil.move(LOCK, DAMAGED_LOCK)
        sentences.append(
            f"{LOCK} was damaged, as by a kill while DVC wrote it: it is {DAMAGED_LOCK} now, and DVC uses its run cache"
        )
    if RUNNING.exists():
        with hold(GUARD, wait=10) as acquired:
            if acquired and not _is_json(RUNNING):
                RUNNING.unlink()
                sentences.append(f"{RUNNING}, DVC's list of running stages, was damaged by a kill: it is removed")
    return sentences


def is_lock_damaged() -> bool:
    """Return whether DVC would refuse dvc.lock, also a moment later: another DVC writes it in place."""
    if not _is_lock_refused():
        return False
    time.sleep(WRITTEN)
    return _is_lock_refused()


def _is_lock_refused() -> bool:
    """Return whether DVC would refuse dvc.lock as it is now.

    Nothing that DVC accepts counts as damaged; of what it refuses, a file cut off within a word may not.
    """
    if not LOCK.exists():
        return False
    try:
        content = load_yaml(LOCK.read_text(encoding="utf-8"))
        stages = content.get("stages", {}).values()
        items = [item["path"] for stage in stages for part in ("deps", "outs") for item in list(stage.get(part, []))]
        return content["schema"] != SCHEMA or not all(stage["cmd"] for stage in stages) or not all(items)
    except (UnicodeDecodeError, yaml.YAMLError, AttributeError, KeyError, TypeError):
        return True


def _is_json(path: Path) -> bool:
    try:
        strict_json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return True
