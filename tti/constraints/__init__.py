"""Constraints on weights, enforced by a projection after each optimiser step. ``docs/extending.md`` adds one."""
