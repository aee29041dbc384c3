"""Prefect flows over the DVC graph: when and how stages run; DVC decides whether."""

from pipelines import server

server.settings()  # before Prefect is imported, which reads them then
