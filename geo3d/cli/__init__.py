"""The command line: the only place that knows Hydra, overrides and exit statuses."""
