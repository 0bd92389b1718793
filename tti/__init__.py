"""Training-time interpretability: the pressure towards readable networks is part of the loss."""

__version__ = "0.1.0"
