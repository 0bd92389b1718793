"""Constraints on weights, enforced by a projection after each optimizer step. ``docs/extending.md`` adds one."""
