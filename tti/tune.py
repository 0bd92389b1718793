"""``python -m tti.tune experiment=expt2``: the same grid of learning rates for every variant of an experiment.

The experiment's sweep under ``hydra/sweeper=tuning``; all overrides of ``python -m tti.train -m`` apply, including the
launcher's.
"""

from tti.command import command
from tti.train import job

main = command("tune")(job)

if __name__ == "__main__":
    main()
