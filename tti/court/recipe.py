"""A recipe for a planted layer; most of its fields are dials that the court turns, one at a time."""

import math
from dataclasses import dataclass, replace
from typing import Any

from omegaconf import DictConfig, OmegaConf

NONE, SHUFFLED, NOISE = "none", "shuffled", "noise"
CONTROLS = (NONE, SHUFFLED, NOISE)


@dataclass(frozen=True)
class Recipe:
    """How a layer is planted: ``neuron j = scale * (gain * (1[value j] + offset) + noise)``, changed by the dials.

    Attributes:
        values: number of values that are planted, and of neurons; even.
        gain: activation where the neuron's value holds.
        noise: standard deviation of the Gaussian noise.
        output: standard deviation of a planted value's effects on the logits.
        rotation: angle in degrees between each neuron and the direction of its value. At 90, a neuron is a random
            mixture of the other values.
        union: number of unrelated values for any of which a neuron fires; each of them has a neuron of its own too.
        density: share of the tokens on which a neuron has noise; elsewhere it is exactly 0 unless its value holds, as
            if a ReLU, a top-k or a penalty had removed small activations that say nothing.
        offset: activation where the value does not hold, in gains; added everywhere.
        scale: factor on all activations.
        frequency: name of the band of frequencies from which the planted values are drawn.
        tokens: share of the stories that the metric sees.
        duplication: number of equal copies of each neuron.
        superposition: values per neuron, each along a random direction.
        lexical: share of the neurons that follow the current token (the best set of token types for the value) instead
            of the value.
        redundancy: share of the neurons that repeat the value of another neuron.
        absorption: share of the tokens of a child (another value that holds on some of the neuron's tokens) on which
            the neuron is silent.
        correlation: share of the stories chosen such that the factors of a story go together; null for all stories. A
            choice leaves a sixth of the stories.
        control: ``none``; ``shuffled``, with the tokens' values permuted; ``noise``, without values.
    """

    values: int
    gain: float
    noise: float
    output: float
    rotation: float
    union: int
    density: float
    offset: float
    scale: float
    frequency: str
    tokens: float
    duplication: int
    superposition: int
    lexical: float
    redundancy: float
    absorption: float
    correlation: float | None
    control: str

    def __post_init__(self) -> None:
        if self.values % (2 * self.superposition):
            raise ValueError(
                f"trial.planted.values={self.values} must be a multiple of twice the superposition, "
                f"{2 * self.superposition}: values rotate in pairs, and share neurons evenly"
            )
        if self.control not in CONTROLS:
            raise ValueError(f"no control {self.control!r}; there are: {', '.join(CONTROLS)}")

    @classmethod
    def of(cls, settings: DictConfig) -> "Recipe":
        """The recipe of a configuration.

        Raises:
            ValueError: two dials do not go together.
        """
        given: Any = OmegaConf.to_object(settings)
        return cls(**given)

    def turned(self, dial: str, level: Any) -> "Recipe":
        """The same recipe with one dial at another level.

        Raises:
            ValueError: there is no such dial; the message lists them.
        """
        if dial not in vars(self):
            raise ValueError(f"no dial {dial!r}; there are: {', '.join(vars(self))}")
        return replace(self, **{dial: level})

    @property
    def truth(self) -> float:
        """Share of a neuron's squared weights that is on its own value, exact for rotations and unions: 1 at best.

        A neuron at an angle ``t`` to its value has ``cos^2 t`` on it, a union of ``m`` values ``1 / m``; a null has 0.
        Density, offset, scale, frequency, tokens and duplication leave it as it is.
        """
        return 0.0 if self.control != NONE else math.cos(math.radians(self.rotation)) ** 2 / self.union
