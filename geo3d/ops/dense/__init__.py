"""Products and reductions over rows."""
