"""Deliver the recorded runs to MLflow that have not reached it yet."""

from __future__ import annotations

import argparse


def main(arguments: list[str]) -> int:
    argparse.ArgumentParser("darkroom sync", description=__doc__).parse_args(arguments)
    from darkroom.tracking import mlflow_client, uploader

    if not uploader.waiting():
        print("every run is in MLflow already")
        return 0
    count = uploader.sync()
    left = len(uploader.journals())
    print(
        f"{count} run{'s' if count != 1 else ''} delivered to {mlflow_client.uri()}" + (f", {left} still at work" if left else "")
    )
    return 0
