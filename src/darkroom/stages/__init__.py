"""One module per stage of dvc.yaml, same name: reads inputs, calls the rooms, writes outputs."""
