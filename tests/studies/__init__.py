"""The experiments behind the figures of ``configs/experiment/README.md``."""
