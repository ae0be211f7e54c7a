"""Deployment of encoders: compiled programs, time budgets, and files for other runtimes."""
