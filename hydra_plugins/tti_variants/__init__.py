"""Hydra plugins of tti."""
