"""A coefficient that stays constant."""

from tti.weightings.base import Weighting


class Fixed(Weighting):
    """Lambda is ``weight``."""

    def full(self) -> float:
        return self.weight
