"""Prefect flows over the DVC graph: when and how stages run; DVC decides whether."""
