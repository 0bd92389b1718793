"""Training-time interpretability objectives, one per file. ``docs/extending.md`` shows how to add one."""
