"""Note that the pipeline DARKROOM_PIPELINE has ended, having looked at these stages, and deliver its runs to MLflow."""

from __future__ import annotations

import argparse


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser("darkroom finished", description=__doc__)
    parser.add_argument("stages", nargs="*", metavar="STAGE")
    given = parser.parse_args(arguments)
    from darkroom.tracking import journal, pipelines, provenance

    about = provenance.pipeline()
    if about and not journal.is_off():
        pipelines.finish(about, given.stages)
        journal.start_delivery()
    return 0
