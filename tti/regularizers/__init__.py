"""Training-time interpretability objectives, one a file. ``docs/extending.md`` shows how to add one."""
