"""The rounding error of a network in a reduced precision, compared with float32."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tti.evaluation.stories import Chunk, StorySet
from tti.models.network import Network
from tti.models.taps import Recorder

TOKENS = 2048  # tokens that are compared


@dataclass(frozen=True)
class Rounding:
    """Differences of a network in reduced precision from the same network in float32, on the same tokens.

    Attributes:
        loss: change of the loss, in nats per token.
        activations: largest root-mean-square difference of a site, relative to the site's root mean square.
        site: the site with this difference.
        tokens: number of tokens in the loss.
    """

    loss: float
    activations: float
    site: str
    tokens: int

    def __str__(self) -> str:
        """One line with all figures."""
        return (f"loss off by {self.loss:+.2g} nats per token, activations by at most {self.activations:.2g} of their "
                f"root mean square ({self.site}), on {self.tokens:,} tokens")  # fmt: skip


@torch.no_grad()
def rounded(net: Network, dtype: torch.dtype, stories: StorySet) -> Rounding:
    """Convert the network to ``dtype`` in place, and return the resulting differences."""
    chunk = stories.drawn(TOKENS).to(net.device)
    exact, nll = _run(net, chunk)
    coarse, coarse_nll = _run(net.to(dtype), chunk)
    off = {site: _relative(coarse[site], acts) for site, acts in exact.items()}
    worst = max(off, key=lambda site: off[site])
    return Rounding(float((coarse_nll - nll).mean()), off[worst], worst, len(nll))


def _run(net: Network, chunk: Chunk) -> tuple[dict[str, Tensor], Float[Tensor, "row"]]:
    batch = chunk.batch
    recorder = Recorder(tuple(name for name, site in net.sites.items() if site.rows == "token"))
    hidden = batch.rows(net(batch.tokens, batch.stories, recorder))
    acts = {site: acts.float() for site, acts in recorder.activations.items()}
    return acts, net.loss(hidden, batch.targets)[1].float()


def _relative(coarse: Tensor, exact: Tensor) -> float:
    scale = exact.square().mean().sqrt()
    return float((coarse - exact).square().mean().sqrt() / scale) if scale else 0.0
