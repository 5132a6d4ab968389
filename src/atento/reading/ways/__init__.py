"""The ways in: where a model's attention can be seen, one file each."""
