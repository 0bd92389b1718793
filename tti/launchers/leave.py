"""The exception with which a launcher ends a command whose jobs have not all run."""


class Leave(SystemExit):
    """End the command without a table of what is missing: nothing was launched, or the jobs continue remotely."""
