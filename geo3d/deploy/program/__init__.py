"""Encoders as sequences of calls into the compiled kernels."""
