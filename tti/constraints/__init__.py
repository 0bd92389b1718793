"""Constraints on weights, kept by a projection after each optimiser step. ``docs/extending.md`` adds one."""
