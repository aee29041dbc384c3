"""Where the records of runs are: this folder, or that of the project for an experiment that DVC runs in a folder of its own."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """Return the folder that holds `.darkroom/journal` and `mlflow.db`.

    `dvc exp run --temp` and `--queue` run in `.dvc/tmp/exps/…`, which DVC removes afterwards; DVC_ROOT names the project then.
    A flow that runs in a worktree names it by DARKROOM_HOME.
    """
    if given := os.environ.get("DARKROOM_HOME"):
        return Path(given)
    root = Path(os.environ.get("DVC_ROOT") or ".")
    return root if (root / ".dvc" / "tmp").resolve() in Path.cwd().resolve().parents else Path()


HOME = home()
