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
    """The identity view."""
    return acts


@dataclass(frozen=True, eq=False)
class Subject:
    """The subject of an evaluation: a network with a view of its activations.

    Attributes:
        name: ``trained``, ``random_init`` or ``rotation``.
        net: the network, in evaluation mode, on its device.
        stories: the split.
        view: transformation of activations before parts see them.
        regularizers: the regularizers that the network was trained with, by name, with their trained parameters; empty
            unless a part ``needs_regularizers``.
        calibration: for every site that a part requests, statistics of its neurons on a sample of stories; empty before
            parts are attached.
        head: maps the network's final hidden state to logits, if not the network's own head.
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
        """Influence of each neuron on the next-token distribution, in nats per token, at the calibrated sites.

        Computed on first access, once for all parts.
        """
        chunk = self.stories.drawn(TOKENS).to(self.device)
        return influence(self.net, self.head or self.net.logits, chunk, self.calibration, self.view)

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return self.net.device

    @property
    def widths(self) -> dict[str, int]:
        """Widths of the sites that have a row per token, from which parts choose."""
        return {name: site.width for name, site in self.net.sites.items() if site.rows == "token"}


@dataclass(frozen=True)
class Seen:
    """Some stories, with the network's activations on them.

    Attributes:
        step: batch, nll (NaN unless a part ``needs_nll``) and activations, ``[token, width]``.
        places: position of each token in the loss in the packed split.
        stories: indices of these stories in the split.
        story: for each token in the loss, the index of its story in ``stories``.
        first: number of tokens in the loss that came before in the pass.
    """

    step: Step
    places: Int[Tensor, "row"]
    stories: Int[Tensor, "story"]
    story: Int[Tensor, "row"]
    first: int


class Part(ABC):
    """One part of the evaluation.

    ``inapplicable`` says whether the part can be done at all, and ``sites`` which activations it needs; both are
    stateless. ``attach`` starts a subject. ``update`` sees all tokens in the loss in one pass shared with other parts,
    and accumulates sums, counts, tables and maxima of bounded size. ``compute`` returns the result, and may also run
    the network on stories of its own choice.
    """

    streams = True
    """Whether it takes part in the pass over all tokens."""
    needs_nll = False
    """Whether it reads ``step.nll``. A pass without it skips the head, most of a small model's arithmetic."""
    needs_regularizers = False
    """Whether it reads ``subject.regularizers``, which requires their code."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.say: Callable[[str], None] = lambda text: None  # reports the progress of a long computation

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Count the time inside this context as the part's own."""
        began = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - began

    def inapplicable(self, subject: Subject) -> str:
        """Why the part cannot be done on this network and these stories; empty if it can."""
        return ""

    def sites(self, widths: Mapping[str, int]) -> tuple[str, ...]:
        """The sites whose activations it needs.

        Raises:
            ValueError: a glob matches no site; the message lists the available ones.
        """
        return ()

    @abstractmethod
    def attach(self, subject: Subject) -> None:
        """Reset, and start with this subject."""

    def update(self, seen: Seen) -> None:  # noqa: B027
        """Add some stories."""

    @abstractmethod
    def compute(self) -> Result:
        """The result."""


def too_coarse(subject: Subject) -> str:
    """Why the effect of one neuron cannot be measured at the network's precision; empty if it can."""
    dtype = subject.net.dtype
    return "" if dtype in (torch.float32, torch.float64) else f"the effect of one neuron is lost in {dtype}"


class SitePart(Part):
    """A part that measures each of its sites separately.

    Args:
        sites: globs.
    """

    def __init__(self, sites: str | Iterable[str]) -> None:
        super().__init__()
        self.patterns = sites

    def sites(self, widths: Mapping[str, int]) -> tuple[str, ...]:
        return choose(self.patterns, widths)


def by_layer(values: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Flatten site -> name -> number to ``<name>/<kind>/<layer>``, and ``<name>/<kind>/mean`` over the layers.

    The mean is undefined if the number is undefined in any layer; otherwise it would be a mean over different layers in
    different models.
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
    values = values.detach().cpu()
    return Array((values.float() if values.dtype == torch.bfloat16 else values).numpy(), dims, unit)


def mean_defined(values: Float[Tensor, "width"]) -> float:
    """Mean of the finite values, NaN if there are none; for values without a worst case, see :func:`mean_of_all`."""
    return float(values[values.isfinite()].double().mean())


def mean_of_all(scores: Float[Tensor, "width"]) -> float:
    """Mean of scores whose worst value is 0; undefined scores count as 0, since excluding them would reward them."""
    return float(scores.double().nan_to_num(0, 0, 0).mean())
