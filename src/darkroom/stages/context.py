"""What every stage does first and last: read the params, open the record, write a model and its cost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darkroom.config import params
from darkroom.config.params import Params
from darkroom.core import atomic
from darkroom.tracking import provenance, records

if TYPE_CHECKING:
    from torch import Tensor

    from darkroom.models.checkpoint import Checkpoint
    from darkroom.training.loop import Fit


@contextmanager
def session(stage: str, sections: list[str], inputs: list[Path]) -> Iterator[tuple[Params, records.Run]]:
    """Yield the validated params and the record of this run; `sections` are what of the params is recorded."""
    settings = params.read()
    recorded = flat(settings, sections)
    with records.run(provenance.stage_name(stage), recorded, [str(path) for path in inputs]) as run:
        yield settings, run


def flat(settings: Params, sections: list[str]) -> dict[str, Any]:
    """Return the named sections or keys as `{"transfer.lr": 0.01, …}`."""
    whole = settings.model_dump(by_alias=True)
    found = {}
    for name in sections:
        section, _, key = name.partition(".")
        values = whole[section]
        for inner, value in values.items():
            if key in ("", inner):
                found[f"{section}.{inner}"] = value
    return found


def write_model(
    out: Path, checkpoint: Checkpoint, weights: dict[str, Tensor], parameters: int, trained: Fit, run: records.Run
) -> None:
    """Write a checkpoint folder whole; record its final metrics, its description and the digest that identifies it."""
    from darkroom.models import checkpoint as checkpoints
    from darkroom.models import digests

    with atomic.new_folder(out) as folder:
        checkpoints.save(folder, checkpoint, weights, parameters, trained.history)
        digest = digests.checkpoint(folder)
    for name in ("model.json", "history.csv"):
        run.file(out / name)
    run.tag({"darkroom.model": checkpoint.name, "darkroom.checkpoint_sha256": digest})
    figures = {f"best_{key}": value for key, value in trained.best.items() if key.startswith("val_")}
    figures |= {"parameters": parameters, "temperature": checkpoint.temperature}
    run.model(checkpoint.name, digest, figures, int(trained.best["epoch"]))


class Stopwatch:
    """Measures what a model cost, which goes to a file of its own, since it differs from run to run."""

    def __init__(self) -> None:
        self.start = time.monotonic()

    def write(self, path: Path) -> None:
        atomic.write_json(path, {"seconds": round(time.monotonic() - self.start, 3)})
