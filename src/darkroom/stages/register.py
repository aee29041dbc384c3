"""Make the model that validation chose a version of the registered model."""

from __future__ import annotations

import json
from pathlib import Path

from darkroom import atomic
from darkroom.errors import WorkspaceError
from darkroom.stages.session import session


def run(metrics: Path, models: Path, out: Path) -> None:
    with session("register", ["register"], [metrics]) as (settings, record):
        from darkroom.models import digests
        from darkroom.tracking import journal, registry

        try:
            evaluated = json.loads(metrics.read_text())
        except FileNotFoundError as error:
            raise WorkspaceError(f"{metrics} is not there", "run `dvc repro evaluate`") from error
        best = evaluated["best"]
        figures = evaluated["models"][best]
        sha256 = digests.checkpoint(models / best)
        verdict = {
            "schema": 1,
            "model": best,
            "checkpoint_sha256": sha256,
            "accuracy": figures["accuracy"],
            "val_accuracy": figures["val_accuracy"],
        }
        if journal.is_off():
            verdict["registered"] = None
            print(f"register: tracking is off, {best} is not registered")
        else:
            tags = {
                "darkroom.model": best,
                "val_accuracy": f"{figures['val_accuracy']:.4f}",
                "test_accuracy": f"{figures['accuracy']:.4f}",
                "test_macro_f1": f"{figures['macro_f1']:.4f}",
            }
            text = f"{best}: {figures['accuracy']:.4f} of the test images right, {figures['val_accuracy']:.4f} of validation"
            name = settings.register_.name
            made = registry.register(name, models / best, sha256, tags, text)
            verdict["registered"] = {"name": name, "version": made.version, "alias": registry.CHALLENGER}
            record.tag({"darkroom.model_version": f"{name}/{made.version}", "darkroom.checkpoint_sha256": sha256})
            print(
                f"register: {best} is {'the new' if made.created else 'the known'} version {made.version} of {name}, "
                f"alias {registry.CHALLENGER}"
            )
        atomic.write_json(out, verdict)
