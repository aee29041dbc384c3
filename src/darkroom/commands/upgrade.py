"""Bring the database of MLflow to the version of MLflow that is installed; a copy of what it was is kept."""

from __future__ import annotations

import argparse


def main(arguments: list[str]) -> int:
    argparse.ArgumentParser("darkroom upgrade", description=__doc__).parse_args(arguments)
    from darkroom.tracking import mlflow_client, uploader

    copy = mlflow_client.upgrade()
    if copy is None:
        print(f"{mlflow_client.uri()} is up to date already")
        return 0
    print(f"{mlflow_client.uri()} is up to date now; as it was before it is kept as {copy}")
    if uploader.waiting():
        count = uploader.sync()
        print(f"{count} run{'s that were' if count > 1 else ' that was'} waiting ha{'ve' if count > 1 else 's'} been delivered")
    return 0
