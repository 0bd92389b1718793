"""Hydra's launcher for Modal."""
