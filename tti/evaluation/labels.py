"""Sources of the labels that probes predict from activations, one class per source."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from tti.data.grammar import StoryGrammar
from tti.evaluation.stories import StorySet

FACTORS = "factors"
NO_LABEL = -1


@dataclass(frozen=True)
class Labelled:
    """Labels of some tokens.

    Attributes:
        tasks: task -> its classes.
        values: class index of each task; a token with ``NO_LABEL`` in any task is not probed.
        notes: what a reader must know about the labels.
    """

    tasks: Mapping[str, Sequence[str]]
    values: Int[np.ndarray, "token task"]
    notes: Mapping[str, str]


class Labels(ABC):
    """A source of labels."""

    @abstractmethod
    def inapplicable(self, stories: StorySet) -> str:
        """Why it has no labels for these stories; empty if it has."""

    @abstractmethod
    def of(self, stories: StorySet, places: Int[np.ndarray, "token"]) -> Labelled:
        """Labels of tokens of these stories, given by their positions in the packed split."""


class Factors(Labels):
    """The factors that generated the grammar's stories; ``none`` is a value like any other.

    Args:
        factors: names of the factors.
    """

    def __init__(self, factors: Sequence[str]) -> None:
        known = StoryGrammar().factors
        if unknown := [name for name in factors if name not in known]:
            raise ValueError(f"the grammar has no factor {', '.join(unknown)}; it has {', '.join(known)}")
        self.tasks = {name: known[name] for name in factors}
        self.columns = [list(known).index(name) for name in factors]

    def inapplicable(self, stories: StorySet) -> str:
        has_them = FACTORS in stories.packed.manifest["arrays"]
        return "" if has_them else "its corpus has no known factors (data=grammar has)"

    def of(self, stories: StorySet, places: Int[np.ndarray, "token"]) -> Labelled:
        values = np.asarray(stories.packed.extra(FACTORS)[places])[:, self.columns]
        return Labelled(self.tasks, values.astype(np.int64), {})
