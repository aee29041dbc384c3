"""params.yaml, recipes, the parameters of the studies and what dvc.yaml says, as typed values."""
