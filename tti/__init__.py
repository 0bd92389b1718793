"""Training-time interpretability: objectives that make a network easier to interpret are part of its training loss."""

__version__ = "0.1.0"
