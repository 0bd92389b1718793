"""The plan of a court: which layers are planted, and which dial each of them turns."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from tti.court.recipe import Recipe

CONTROL = "control"
Levels = Mapping[str, Sequence["Level"]]


@dataclass(frozen=True)
class Level:
    """One dial at one level, with all others as in the layer that every dial starts from."""

    dial: str
    value: Any
    recipe: Recipe

    @property
    def dose(self) -> float:
        """What is lost of the truth; 0 for a nuisance."""
        return 1 - self.recipe.truth

    def __str__(self) -> str:
        if self.dial == CONTROL:
            return str(self.value)
        return f"{self.dial} {self.value}" if isinstance(self.value, str) else f"{self.dial} {self.value:g}"


@dataclass(frozen=True)
class Plan:
    """The layers of a court.

    Attributes:
        base: the layer that every dial starts from.
        doses: dials that a metric should see, in rising dose; the base, of dose 0, is not among the levels.
        nuisances: dials that a metric should not see.
        nulls: layers without truth.
        shown: dials without a verdict; each is compared with its first level.
    """

    base: Recipe
    doses: Levels
    nuisances: Levels
    nulls: Sequence[Level]
    shown: Levels

    @classmethod
    def of(cls, trial: DictConfig) -> "Plan":
        """The plan that the frozen file describes.

        Raises:
            ValueError: a dial is unknown, two do not go together, or the largest dose of the first dial is not 1.
        """
        base = Recipe.of(trial.planted)

        def levels(group: Any) -> dict[str, list[Level]]:
            found: Any = OmegaConf.to_object(group)
            return {
                dial: [Level(dial, value, base.turned(dial, value)) for value in values]
                for dial, values in found.items()
                if values
            }

        nulls = [Level(CONTROL, name, base.turned(CONTROL, name)) for name in trial.nulls]
        made = cls(base, levels(trial.doses), levels(trial.nuisances), nulls, levels(trial.shown))
        if not made.doses or abs(made.unit.dose - 1) > 1e-9:
            raise ValueError(
                "trial.doses must begin with a dial whose last level has a dose of 1, such as rotation: 90"
            )
        return made

    @property
    def resolving(self) -> Sequence[Level]:
        """The levels of the dial on which the unit of all moves and the resolution are found: the first one."""
        return next(iter(self.doses.values()))

    @property
    def unit(self) -> Level:
        """The level of dose 1."""
        return self.resolving[-1]

    def recipes(self) -> list[Recipe]:
        """Every recipe once."""
        return list(dict.fromkeys([self.base, *(level.recipe for level in self._levels())]))

    def _levels(self) -> Iterator[Level]:
        for group in (self.doses, self.nuisances, {CONTROL: self.nulls}, self.shown):
            for levels in group.values():
                yield from levels
