"""List the versions of the registered model: which one counts, how good it is, what it was trained on.

`darkroom models describe NAME` shows an architecture layer by layer, `describe --list` the names.
"""

from __future__ import annotations

import argparse
import time

from darkroom.config import params


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["describe"]:
        from darkroom.commands import describe

        return describe.main(arguments[1:])
    parser = argparse.ArgumentParser("darkroom models", description=__doc__)
    parser.add_argument("--history", action="store_true", help="who was champion when, and why")
    given = parser.parse_args(arguments)
    from darkroom.tracking import registry

    name = params.read().register_.name
    listed = registry.versions(name)
    if not listed:
        print(f"{name} has no versions yet: `dvc repro` registers the first one")
        return 0
    models = {item.version: item.model for item in listed}
    if given.history:
        crownings = registry.ledger(name)
        if not crownings:
            print(f"{name} has had no champion yet: `darkroom promote VERSION` makes one")
        for line in crownings:
            whose = f"version {line.version}, {models.get(line.version, 'deleted')},"
            after = f" in place of version {line.previous}" if line.previous else ""
            print(f"{_when(line.time)}  {whose}{after} by {line.by}: {line.why}")
        return 0
    head = ("version", "model", "validation", "test", "macro F1", "checks", "made", "trained on")
    lines: list[tuple[str, ...]] = [head]
    for item in sorted(listed, key=lambda item: -int(item.version)):
        lines.append((
            item.version + "".join(f" {alias}" for alias in sorted(item.aliases)), item.model, item.tags.get("val_accuracy", ""),
            item.tags.get("test_accuracy", ""), item.tags.get("test_macro_f1", ""), item.verdict, _when(item.made),
            item.tags.get(registry.DATA, ""),
        ))  # fmt: skip
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    for cells in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())
    return 0


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
