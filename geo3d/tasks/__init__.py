"""What trains: tasks, data, callbacks, the run folder."""
