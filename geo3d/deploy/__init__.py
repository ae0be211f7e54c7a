"""Encoders in use: faster programs, budgets of time, files for other runtimes."""
