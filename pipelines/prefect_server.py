"""Prefect's server, answering only requests for this machine by name: `python -m pipelines.prefect_server PORT`.

It is `prefect server start` behind a check of the header Host, which Prefect lacks. Without the check, a web page whose name is
made to lead to 127.0.0.1 (DNS rebinding) would count for the browser as a page of this server.
"""

from __future__ import annotations

import sys

import uvicorn
from prefect.server.api.server import create_app
from prefect.settings import get_current_settings
from starlette.middleware.trustedhost import TrustedHostMiddleware

HOST = "127.0.0.1"
HOSTS = [HOST, "localhost"]


def main(port: int) -> None:
    settings = get_current_settings().server
    uvicorn.run(
        TrustedHostMiddleware(create_app(final=True), HOSTS, www_redirect=False), host=HOST, port=port,
        timeout_keep_alive=settings.api.keepalive_timeout, ws_ping_interval=settings.api.websocket_ping_interval,
        ws_ping_timeout=settings.api.websocket_ping_timeout, log_level=settings.logging_level.lower(),
    )  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]))
