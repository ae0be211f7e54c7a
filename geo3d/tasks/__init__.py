"""Training: tasks, batches, callbacks and the run folder."""
