"""How a launcher ends a command whose jobs have not all run."""


class Leave(SystemExit):
    """All has been said, and no table of what is missing follows: nothing was launched, or it goes on elsewhere."""
