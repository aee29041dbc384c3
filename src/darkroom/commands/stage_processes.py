"""A stage in as many processes as `compute.processes` says, started here or by torchrun; its command is the same for any number."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from darkroom.core import ranks
from darkroom.core.errors import ParamsError
from darkroom.core.lazy import lazy_imports

with lazy_imports():
    from darkroom.config import params
    from darkroom.training import processes

PARALLEL = ("baseline", "embed", "transfer", "finetune")


def run(name: str, arguments: dict[str, Any]) -> None:
    """Run a stage on its arguments, paths and perhaps a `name`.

    Raises ParamsError where torchrun has started a stage that runs in one process, or another number than the params have.
    """
    if name not in PARALLEL:
        if ranks.size() > 1:
            raise ParamsError(f"{name} runs in one process", f"run `darkroom {name}` without torchrun, and without WORLD_SIZE")
        _run_here(name, arguments)
        return
    compute = params.read().compute
    if ranks.size() > 1:
        processes.join(compute)
        _run_here(name, arguments)
    elif compute.processes == 1:
        _run_here(name, arguments)
    else:
        code = ranks.launch([sys.executable, "-P", "-m", "darkroom", name, *_words(arguments)], compute.processes)
        if code:
            raise click.exceptions.Exit(code)


def _run_here(name: str, arguments: dict[str, Any]) -> None:
    importlib.import_module(f"darkroom.stages.{name}").run(**arguments)


def _words(arguments: dict[str, Any]) -> list[str]:
    options = {key: value for key, value in arguments.items() if key != "name" and value is not None}
    words = [str(word) for key, value in options.items() for word in (f"--{key}", value)]
    return [*words, *([arguments["name"]] if "name" in arguments else [])]
