"""Encoders as sequences of calls of compiled kernels."""
