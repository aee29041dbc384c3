"""Prefect flows over the DVC graph: Prefect decides when and how stages run, DVC decides whether they run."""

from pipelines import server

server.configure()  # before Prefect is imported, which reads the settings then
