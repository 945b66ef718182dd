"""What a model can be evaluated on: one file per kind of task."""
