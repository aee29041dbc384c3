"""What MLflow is told, and the only imports of it."""
