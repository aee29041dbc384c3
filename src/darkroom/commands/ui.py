"""Open the MLflow UI on the runs of all stages."""

from __future__ import annotations

import argparse
import os
import sys


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser("darkroom ui", description=__doc__)
    parser.add_argument("--port", type=int, default=5000)
    given = parser.parse_args(arguments)
    from darkroom.tracking import mlflow_client, uploader

    if uploader.waiting():
        uploader.sync()
    uri = mlflow_client.uri()
    if uri.startswith(("http://", "https://")):
        print(f"MLflow    {uri}/#/experiments?{mlflow_client.PAGES}")
        return 0
    print(f"MLflow    http://127.0.0.1:{given.port}/#/experiments?{mlflow_client.PAGES}  (Ctrl+C ends it)", flush=True)
    print("Prefect   make schedule-status says where", flush=True)
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "ui",
        "--backend-store-uri",
        uri,
        "--host",
        "127.0.0.1",
        "--port",
        str(given.port),
    ]
    os.execv(sys.executable, command)
    return None
