"""DVC, and how the command of a stage ended: DVC's own exit code is 255, whatever that of the stage was.

`python -m darkroom.config.dvc_process repro …` is `python -m dvc repro …`, and writes `{"stage": NAME, "code": CODE}` to the file
that DARKROOM_EXIT_CODE_FILE names where the command of a stage fails. A code below 0 is the signal that has ended it. That
holds for every command, also for one that is killed and can tell nothing, and with `--quiet`.
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

from darkroom.core import strict_json

FILE = "DARKROOM_EXIT_CODE_FILE"
STAGE = "DVC_STAGE"  # the variable in which DVC tells a command its stage
KILLED = (-9, 128 + 9)  # the exit codes of a command that SIGKILL has ended, and of a shell whose last command it has ended


class _Popen(subprocess.Popen[Any]):
    """A process; where it is the command of a stage and fails, its exit code is written down."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.stage = (options.get("env") or {}).get(STAGE, "")
        super().__init__(*args, **options)

    def communicate(self, *args: Any, **options: Any) -> tuple[Any, Any]:
        result = super().communicate(*args, **options)
        if self.stage and self.returncode:
            with suppress(OSError):
                text = json.dumps({"stage": self.stage.rpartition(":")[2], "code": self.returncode})
                Path(os.environ[FILE]).write_text(text, encoding="utf-8")
        return result


def failed_stage(text: str) -> tuple[str, int] | None:
    """Return the stage that failed last and the exit code of its command from the content of the file; None where none did."""
    with suppress(ValueError, KeyError, TypeError):
        content = strict_json.loads(text)
        return str(content["stage"]), int(content["code"])
    return None


if __name__ == "__main__":
    subprocess.Popen = _Popen  # type: ignore[misc]
    runpy.run_module("dvc", run_name="__main__", alter_sys=True)
