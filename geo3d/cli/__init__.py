"""The command line: the only package that uses Hydra, overrides and exit statuses."""
