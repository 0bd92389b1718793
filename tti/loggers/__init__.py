"""Loggers of this project."""
