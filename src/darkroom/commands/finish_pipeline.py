"""Note that a pipeline has ended, having looked at these stages, and deliver its runs to MLflow."""

from __future__ import annotations

import argparse
import os


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser("darkroom finished", description=__doc__)
    parser.add_argument("stages", nargs="*", metavar="STAGE")
    parser.add_argument("--pipeline", metavar="NAME", help="the pipeline, in place of DARKROOM_PIPELINE")
    parser.add_argument("--where", action="store_true", help="say where it is in MLflow")
    given = parser.parse_args(arguments)
    if given.pipeline:
        os.environ["DARKROOM_PIPELINE"] = given.pipeline
    from darkroom.tracking import mlflow_client, pipelines, provenance, records, requests

    about = provenance.pipeline()
    if about and not records.is_off():
        if given.where and (answer := requests.ask({"room": "parents", "work": "place", "about": about}, mlflow_client.uri())):
            print(answer["place"])
        pipelines.finish(about, given.stages)
        records.start_delivery()
    return 0
