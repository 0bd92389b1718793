"""The contract of an evaluation part, and the subject that a part evaluates."""

import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tti.evaluation.calibration import Calibration
from tti.evaluation.influence import TOKENS, influence
from tti.evaluation.influence import View as View
from tti.evaluation.stories import StorySet
from tti.evaluation_folder import Array, Result
from tti.models.network import Head, Network
from tti.models.taps import choose, kind_of, layer_of
from tti.step import Step


def unchanged(site: str, acts: Float[Tensor, "token width"]) -> Float[Tensor, "token width"]:
    """The view that does nothing."""
    return acts


@dataclass(frozen=True, eq=False)
class Subject:
    """What is evaluated.

    Attributes:
        name: ``trained``, ``random_init`` or ``rotation``.
        net: the network, in evaluation mode, on the device.
        stories: the split.
        view: what becomes of activations before parts see them.
        regularizers: what the network was trained with, by name, with what they have learned; empty unless a part
            ``needs_regularizers``.
        calibration: for every site that a part asked for, what a sample of stories says of its neurons; empty before
            parts are attached.
        head: logits from the network's final hidden state, where they are not its own.
    """

    name: str
    net: Network
    stories: StorySet
    view: View = unchanged
    regularizers: nn.ModuleDict = field(default_factory=nn.ModuleDict)
    calibration: Mapping[str, Calibration] = field(default_factory=dict)
    head: Head | None = None

    @cached_property
    def influence(self) -> dict[str, Float[Tensor, "width"]]:
        """For every site of ``calibration``, how far each neuron moves the next-token distribution, in nats a token.

        Computed when a part first asks for it, once for all parts.
        """
        chunk = self.stories.drawn(TOKENS).to(self.device)
        return influence(self.net, self.head or self.net.logits, chunk, self.calibration, self.view)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.net.device

    @property
    def widths(self) -> dict[str, int]:
        """The sites that have a row a token, which parts choose from, with their widths."""
        return {name: site.width for name, site in self.net.sites.items() if site.rows == "token"}


@dataclass(frozen=True)
class Seen:
    """Some stories with what the network made of them.

    Attributes:
        step: batch, nll (only if a part ``needs_nll``; not numbers otherwise) and activations, ``[token, width]``.
        places: where each token in the loss stands in the packed split.
        stories: which stories of the split these are.
        story: which of them each token in the loss is of.
        first: tokens in the loss before these in the pass.
    """

    step: Step
    places: Int[Tensor, "row"]
    stories: Int[Tensor, "story"]
    story: Int[Tensor, "row"]
    first: int


class Part(ABC):
    """One part of the evaluation.

    It says whether it can be done at all (``inapplicable``) and which activations it wants (``sites``), both without
    remembering anything; begins with a subject (``attach``); sees all scored tokens in one pass that it shares with
    other parts (``update``; sums, counts, tables and maxima of bounded size); and says what it found (``compute``),
    where it may also run the network on stories of its own choice.
    """

    streams = True
    """Whether it wants the pass over all tokens."""
    needs_nll = False
    """Whether it reads ``step.nll``; a pass without it spares the head, most of a small model's arithmetic."""
    needs_regularizers = False
    """Whether it reads ``subject.regularizers``, which takes their code."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.say: Callable[[str], None] = lambda text: None  # how far a long computation is

    @contextmanager
    def timed(self) -> Iterator[None]:
        """What happens within counts as this part's own work."""
        began = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - began

    def inapplicable(self, subject: Subject) -> str:
        """Why it cannot be done on this network and these stories; empty if it can."""
        return ""

    def sites(self, widths: Mapping[str, int]) -> tuple[str, ...]:
        """The sites whose activations it wants.

        Raises:
            ValueError: a glob matches none; the message lists those there are.
        """
        return ()

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
        sites: globs.
    """

    def __init__(self, sites: str | Iterable[str]) -> None:
        super().__init__()
        self.patterns = sites

    def sites(self, widths: Mapping[str, int]) -> tuple[str, ...]:
        return choose(self.patterns, widths)


def by_layer(values: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Site -> name -> number, as ``<name>/<kind>/<layer>`` and ``<name>/<kind>/mean`` over the layers.

    The mean is over all of the layers: undefined where the number is undefined in any, since a mean over those where it
    is defined would be over other layers in another model.
    """
    metrics: dict[str, float] = {}
    over_layers: dict[str, list[float]] = defaultdict(list)
    for site, named in values.items():
        for name, value in named.items():
            kind = f"{name}/{kind_of(site)}"
            metrics[f"{kind}/{layer_of(site)}"] = float(value)
            over_layers[kind].append(float(value))
    return metrics | {f"{kind}/mean": float(np.mean(each)) for kind, each in over_layers.items()}


def per_neuron(site: str, **statistics: Float[Tensor, "width"]) -> dict[str, Array]:
    """Arrays of the site's table of neurons."""
    return {f"{site}/neuron/{name}": array(values.float(), "width") for name, values in statistics.items()}


def array(values: Tensor, *dims: str, unit: str = "") -> Array:
    """A tensor as an array of the result."""
    return Array(values.detach().cpu().numpy(), dims, unit)


def mean_defined(values: Float[Tensor, "width"]) -> float:
    """Mean of the values that are numbers; NaN where none is. For what has no worst value: see :func:`mean_of_all`."""
    return float(values[values.isfinite()].double().mean())


def mean_of_all(scores: Float[Tensor, "width"]) -> float:
    """Mean of scores of which 0 is the worst, and what an undefined one counts as: leaving it out would reward it."""
    return float(scores.double().nan_to_num(0, 0, 0).mean())
