"""The contract of an evaluation part, and what it is told about what it evaluates."""

import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from tti.autoencoders.base import SparseAutoencoder
from tti.evaluation.calibration import Calibration
from tti.evaluation.stories import StorySet
from tti.evaluation_folder import Array, Result
from tti.models.gpt import GPT
from tti.models.taps import choose, kind_of, layer_of
from tti.step import Step

View = Callable[[str, Float[Tensor, "token width"]], Float[Tensor, "token width"]]
"""What becomes of a site's activations before a part sees them: nothing, or a rotation."""


@dataclass(frozen=True)
class Subject:
    """What is evaluated.

    Attributes:
        name: ``trained``, ``random_init`` or ``rotation``.
        net: the network, in evaluation mode, on the device.
        stories: the split.
        view: what becomes of activations before parts see them.
        calibration: for every site that a part asked for, what a sample of stories says of its neurons.
        cotrained: the autoencoders that were trained with the network, by site.
    """

    name: str
    net: GPT
    stories: StorySet
    view: View
    calibration: Mapping[str, Calibration]
    cotrained: Mapping[str, SparseAutoencoder] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.net.embed.weight.device


@dataclass(frozen=True)
class Seen:
    """Some stories with what the network made of them.

    Attributes:
        step: batch, nll (only if a part ``needs_nll``; not numbers otherwise) and activations, ``[token, width]``.
        places: where each token stands in the packed split.
        stories: which stories of the split these are.
        story: which of them each token is of.
        first: scored tokens before these in the pass.
    """

    step: Step
    places: Int[Tensor, "token"]
    stories: Int[Tensor, "story"]
    story: Int[Tensor, "token"]
    first: int


class Part(ABC):
    """One part of the evaluation.

    It is told what it evaluates (``attach``), sees all scored tokens in one pass that it shares with other parts
    (``update``; sums, counts, tables and maxima of bounded size), and says what it found (``compute``), where it may
    also run the network on stories of its own choice.

    Args:
        subjects: the subjects it makes sense for.
    """

    streams = True
    """Whether it wants the pass over all tokens."""
    needs_nll = False
    """Whether it reads ``step.nll``; a pass without it spares the head, most of a small model's arithmetic."""

    def __init__(self, subjects: Sequence[str]) -> None:
        self.subjects = tuple(subjects)
        self.seconds = 0.0
        self.say: Callable[[str], None] = lambda text: None  # how far a long computation is

    @contextmanager
    def timed(self) -> Iterator[None]:
        """What happens within counts as this part's own work."""
        began = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - began

    def sites(self, widths: Mapping[str, int]) -> tuple[str, ...]:
        """The sites whose activations it wants.

        Raises:
            ValueError: a glob matches none; the message lists those there are.
        """
        return ()

    def inapplicable(self, stories: StorySet) -> str:
        """Why it cannot be done on these stories; empty if it can."""
        return ""

    @abstractmethod
    def attach(self, subject: Subject) -> None:
        """Forget everything and begin with this subject."""

    def update(self, seen: Seen) -> None:  # noqa: B027
        """Take in some stories."""

    @abstractmethod
    def compute(self) -> Result:
        """What was found."""


class SitePart(Part):
    """A part that measures each of its sites apart.

    Args:
        subjects: the subjects it makes sense for.
        sites: globs.
    """

    def __init__(self, subjects: Sequence[str], sites: str | Iterable[str]) -> None:
        super().__init__(subjects)
        self.patterns = sites
        self.chosen: tuple[str, ...] = ()

    def sites(self, widths: Mapping[str, int]) -> tuple[str, ...]:
        self.chosen = choose(self.patterns, widths)
        return self.chosen


def by_layer(values: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Site -> name -> number, as ``<name>/<kind>/<layer>`` and ``<name>/<kind>/mean`` over the layers.

    The mean is over the layers where the number is defined.
    """
    metrics: dict[str, float] = {}
    over_layers: dict[str, list[float]] = defaultdict(list)
    for site, named in values.items():
        for name, value in named.items():
            kind = f"{name}/{kind_of(site)}"
            metrics[f"{kind}/{layer_of(site)}"] = float(value)
            over_layers[kind].append(float(value))
    for kind, each in over_layers.items():
        defined = [value for value in each if np.isfinite(value)]
        metrics[f"{kind}/mean"] = float(np.mean(defined)) if defined else float("nan")
    return metrics


def per_neuron(site: str, **statistics: Float[Tensor, "width"]) -> dict[str, Array]:
    """Arrays of the site's table of neurons."""
    return {f"{site}/neuron/{name}": array(values.float(), "width") for name, values in statistics.items()}


def array(values: Tensor, *dims: str, unit: str = "") -> Array:
    """A tensor as an array of the result."""
    return Array(values.detach().cpu().numpy(), dims, unit)


def mean_defined(values: Float[Tensor, "width"]) -> float:
    """Mean of the values that are numbers; not a number where none is."""
    return float(values[values.isfinite()].double().mean())
