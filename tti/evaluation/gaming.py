"""Gaming audit: metrics that move under changes of the weights that leave the network's function unchanged.

A metric that moves under such a change measures, in part, how the weights are written down. It may be displayed, but
nothing may be decided by it. A change is used only after the logits have been compared.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from copy import deepcopy

import torch
from jaxtyping import Float
from torch import Tensor

from tti.evaluation.base import Part, Subject, too_coarse
from tti.evaluation.run_through import examine
from tti.evaluation.stories import SEED, StorySet
from tti.evaluation_folder import Result
from tti.models.network import Head, Network, Reparametrizable
from tti.models.symmetry import InapplicableError

TOLERANCE = 1e-6  # difference of logits in double precision, relative to the largest
MOVED = 0.01  # relative change of a metric


class Change(ABC):
    """A change of a network, in double precision, that leaves its function unchanged."""

    @abstractmethod
    def __call__(self, net: Reparametrizable, stories: StorySet) -> Head | None:
        """Change the network in place; returns its new head, if it has one.

        Args:
            net: the network to change, in double precision.
            stories: the stories that the audit measures on.

        Raises:
            InapplicableError: this network cannot be changed in this way; the message says why.
        """


class Permute(Change):
    """Permutes the hidden neurons of every MLP."""

    def __call__(self, net: Reparametrizable, stories: StorySet) -> None:
        net.permute_hidden(torch.Generator().manual_seed(SEED))


class Rescale(Change):
    """Multiplies hidden activations by ``factor`` and divides their output weights by it, in a ReLU network."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, net: Reparametrizable, stories: StorySet) -> None:
        net.rescale_hidden(self.factor)


class Duplicate(Change):
    """Duplicates every hidden neuron, each copy writing half."""

    def __call__(self, net: Reparametrizable, stories: StorySet) -> None:
        net.duplicate_hidden()


class Decoys(Change):
    """Adds hidden neurons, each of which responds to one of the most frequent token types and writes nothing.

    Args:
        fraction: number of added neurons as a fraction of an MLP's hidden neurons.
        tokens: approximate tokens of the stories that they are fitted to.
    """

    def __init__(self, fraction: float, tokens: int) -> None:
        self.fraction, self.tokens = fraction, tokens

    def __call__(self, net: Reparametrizable, stories: StorySet) -> None:
        assert isinstance(net, Network)
        batch = stories.drawn(self.tokens).to(net.device).batch
        wanted = round(self.fraction * min(width for site, width in net.widths.items() if site.endswith("mlp.post")))
        counts = torch.bincount(batch.tokens)
        frequent = counts.argsort(descending=True, stable=True)
        answers = frequent[torch.arange(max(1, wanted), device=net.device) % (counts > 0).sum()]
        net.add_idle_hidden(batch.tokens, batch.stories, (batch.tokens[:, None] == answers).double())


class RotateResidual(Change):
    """Rotates the basis of the residual stream, and everything that reads or writes it.

    LayerNorm removes the mean, so the all-ones direction stays fixed. LayerNorms' gains and biases are first folded
    into the weights that read from them, which thereby gain a bias.
    """

    def __call__(self, net: Reparametrizable, stories: StorySet) -> Head:
        assert isinstance(net, Network)
        width = net.sites["ln_final.normalized"].width
        return net.rotate_residual(rotation_about_ones(width).to(net.device))


def rotation_about_ones(width: int) -> Float[Tensor, "d d"]:
    """A random orthogonal matrix that fixes the all-ones direction."""
    generator = torch.Generator().manual_seed(SEED)
    inner, _ = torch.linalg.qr(torch.randn(width - 1, width - 1, generator=generator, dtype=torch.float64))
    mirror = torch.full((width,), width**-0.5, dtype=torch.float64)
    mirror[0] -= 1
    mirror /= mirror.norm().clamp_min(1e-12)
    householder = torch.eye(width, dtype=torch.float64) - 2 * torch.outer(mirror, mirror)  # first axis <-> all-ones
    turned = torch.block_diag(torch.ones(1, 1, dtype=torch.float64), inner)
    return householder @ turned @ householder


class Gaming(Part):
    """Metrics before and after every change, on randomly drawn whole stories.

    Reports ``<change>/<metric>/before``, ``after`` and ``moved`` (1 if it changed by more than 1 %) for the mean over
    layers of every metric of the audited parts; ``<change>/logit_difference`` is the largest difference relative to the
    largest logit.

    Args:
        changes: changes by name.
        parts: audited parts by name.
        tokens: approximate tokens of the stories.
    """

    streams = False

    def __init__(self, changes: Mapping[str, Change], parts: Mapping[str, Part], tokens: int) -> None:
        super().__init__()
        self.changes, self.parts, self.tokens = changes, parts, tokens

    def inapplicable(self, subject: Subject) -> str:
        if not isinstance(subject.net, Reparametrizable):
            return "the network has no known changes of its weights that leave its function unchanged"
        return too_coarse(subject)

    def attach(self, subject: Subject) -> None:
        self.subject = subject
        self.stories = subject.stories.subset(self.tokens)

    def compute(self) -> Result:
        before = self._measured(self.subject.net, self.subject.head)
        metrics: dict[str, float] = {}
        notes: dict[str, str] = {}
        for name, change in self.changes.items():
            net = deepcopy(self.subject.net).double()  # so that rounding does not change the top k
            assert isinstance(net, Reparametrizable)
            try:
                head = change(net, self.stories) or net.logits
            except InapplicableError as error:
                notes[name] = f"left out: {error}"
                continue
            metrics[f"{name}/logit_difference"] = self._difference(name, net, head)
            for metric, after in self._measured(net.float(), head).items():
                metrics[f"{name}/{metric}/before"], metrics[f"{name}/{metric}/after"] = before[metric], after
                metrics[f"{name}/{metric}/moved"] = float(moved(before[metric], after))
        return Result(metrics, notes=notes)

    def _measured(self, net: Network, head: Head | None) -> dict[str, float]:
        examine({Subject("", net, self.stories, head=head): list(self.parts.values())}, self.tokens)
        results = {name: part.compute() for name, part in self.parts.items()}
        return {
            f"{name}/{metric.removesuffix('/mean')}": value
            for name, result in results.items()
            for metric, value in result.metrics.items()
            if metric.endswith("/mean")
        }

    def _difference(self, name: str, net: Network, head: Head) -> float:
        batch = self.stories.drawn(256).to(self.subject.device).batch
        original = deepcopy(self.subject.net).double()
        expected = original.logits(original(batch.tokens, batch.stories))
        found = head(net(batch.tokens, batch.stories))
        difference = float((found - expected).abs().max() / expected.abs().max())
        if not difference <= TOLERANCE:
            raise ValueError(
                f"the change {name} changes the logits, by {difference:.1e} of the largest, so it cannot audit anything"
            )
        return difference


def moved(before: float, after: float) -> bool:
    """Whether a metric changed by more than :data:`MOVED` of its value; NaN before and after counts as unchanged."""
    if before != before or after != after:
        return (before == before) != (after == after)
    return abs(after - before) > MOVED * max(abs(before), 1e-3)
