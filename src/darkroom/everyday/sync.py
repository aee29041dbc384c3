"""Deliver the recorded runs to MLflow that have not reached it yet."""

from __future__ import annotations

import argparse


def main(arguments: list[str]) -> int:
    argparse.ArgumentParser("darkroom sync", description=__doc__).parse_args(arguments)
    from darkroom.tracking import deliver, store

    if not deliver.waiting():
        print("every run is in MLflow already")
        return 0
    count = deliver.sync()
    left = len(deliver.journals())
    print(f"{count} run{'s' if count != 1 else ''} delivered to {store.uri()}" + (f", {left} still at work" if left else ""))
    return 0
