"""Loggers that are ours."""
