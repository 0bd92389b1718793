"""``python -m tti.tune experiment=expt2``: the same grid of learning rates for every variant of an experiment.

The experiment's sweep with ``hydra/sweeper=tuning``; all overrides of ``python -m tti.train -m`` apply, the launcher's
included.
"""

import sys

from tti.train import command_line


def main() -> None:
    """The command line."""
    sys.argv[1:] = ["-m", "hydra/sweeper=tuning", *(each for each in sys.argv[1:] if each not in ("-m", "--multirun"))]
    command_line()


if __name__ == "__main__":
    main()
