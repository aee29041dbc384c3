"""The frame of every stage: validated params, and the record of the run."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from darkroom.config import params
from darkroom.config.params import Params
from darkroom.core import atomic, ranks
from darkroom.tracking import records

OUTPUTS = ("data", "data/embedded", "models", "models/cost", "models/finetune", "models/transfer", "models/weights", "reports")
STATE = Path(".darkroom")


@contextmanager
def session(stage: str, sections: list[str], inputs: list[Path]) -> Iterator[tuple[Params, records.Run]]:
    """Yield the validated params and the record of this run, which has the params of `sections`.

    Of several processes that do a stage, rank 0 alone records and cleans up.
    """
    settings = params.read()
    if ranks.rank():
        yield settings, records.Run(Path(), None)
        return
    atomic.sweep(_folders(settings.backbones))
    recorded = flatten(settings, sections)
    with records.start_run(stage, recorded, [str(path) for path in inputs]) as run:
        yield settings, run


def _folders(backbones: Iterable[str]) -> Iterator[Path]:
    """Yield the folders of this workspace in which stages write; `LIBRARY/NAME` has one of the library's in each."""
    yield from map(Path, OUTPUTS)
    yield from sorted({Path(output, name).parent for output in OUTPUTS for name in backbones if "/" in name})
    for folder in (STATE, *STATE.glob("*"), *STATE.glob("resume/*"), *STATE.glob("scratch/*")):
        if folder.is_dir() and not folder.is_symlink():
            yield folder


def flatten(settings: Params, sections: list[str]) -> dict[str, Any]:
    """Return the named sections (`transfer`), keys (`transfer.lr`) or values (`cross_validation`): `{"transfer.lr": 0.01, …}`."""
    content = settings.model_dump(by_alias=True)
    values: dict[str, Any] = {}
    for name in sections:
        section, _, key = name.partition(".")
        if not isinstance(content[section], dict):
            values[section] = content[section]
            continue
        values |= {f"{section}.{inner}": value for inner, value in content[section].items() if key in ("", inner)}
    return values


class Stopwatch:
    """Measures the seconds that a model took; its file is not an input of training, since it varies."""

    def __init__(self) -> None:
        self.start = time.monotonic()

    def write(self, path: Path, earlier: float = 0.0) -> None:
        """Write `{"seconds": …}`; `earlier` are those of runs that were stopped, on which this one went on."""
        atomic.write_json(path, {"seconds": round(earlier + time.monotonic() - self.start, 3)})
