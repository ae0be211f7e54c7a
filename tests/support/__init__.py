"""Helpers that several tests share: small data sets, published forms of encoders, writers of files."""
