"""A network with a planted hidden layer, so that each neuron's function and its correct scores are known."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from tti.evaluation import runner
from tti.evaluation.base import Subject
from tti.evaluation.run_through import examine
from tti.evaluation.stories import StorySet
from tti.models.network import Network, Site
from tti.models.taps import no_tap

SITE = "blocks.0.mlp.post"


class Planted(Network):
    """``plant(tokens, factors)`` computes the hidden layer; the head reads the neurons of ``written``, or all if None.

    The factors are an array of the corpus. The loss is of its own, ``target / 10``.
    """

    def __init__(
        self,
        stories: StorySet,
        plant: Callable[[Tensor, Tensor], Tensor],
        written: Mapping[int, float] | None = None,
        array: str = "factors",
    ) -> None:
        super().__init__()
        packed = stories.packed
        self.embed = nn.Embedding(packed.manifest["vocab_size"], 4)
        nn.init.normal_(self.embed.weight, generator=torch.Generator().manual_seed(0))
        self.plant = plant
        factors = packed.extra(array)
        spans = zip(packed.offsets[:-1], packed.offsets[1:], strict=True)
        self.known = {
            tuple(packed.tokens[start : end - 1].tolist()): torch.from_numpy(factors[start : end - 1].copy())
            for start, end in spans
        }
        first = torch.from_numpy(packed.tokens[: packed.offsets[1] - 1].astype(int))
        width = self.hidden(first).shape[1]
        self.written = dict.fromkeys(range(width), 1.0) if written is None else written
        self.sites = {SITE: Site(width)}

    def hidden(self, tokens: Tensor) -> Tensor:
        return self.plant(tokens, self.known[tuple(tokens.tolist())])

    vocab_size = operations_per_token = 0

    def forward(self, tokens, stories, tap=no_tap):
        hidden = tap(SITE, torch.cat([self.hidden(story) for story in tokens.split(stories.lengths)]))
        out = torch.zeros(hidden.shape[1], 4)
        for neuron, size in self.written.items():
            out[neuron] = size * torch.tensor([1.0, -1, 0, 0]).roll(neuron)
        return hidden @ out

    def logits(self, hidden):
        return hidden @ self.embed.weight.T

    def loss(self, hidden, targets):
        nll = targets.float() / 10
        return nll.mean(), nll


@torch.no_grad()
def run(part, net, stories):
    """The result of one part, calibrated on all stories."""
    examine({Subject("trained", net, stories): [part]}, 10**9)
    return part.compute()


def made(config, name, **settings):
    """A part configured as in ``conf/evaluation``, at the planted site."""
    return runner.made(config.evaluation[name], **settings)
