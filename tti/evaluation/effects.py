"""Effects: the next tokens that each neuron promotes, from its weights alone."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from tti.evaluation.base import SitePart, Subject, array, by_layer, mean_defined, per_neuron
from tti.evaluation_folder import Array, Result
from tti.models.network import Readable

AT_ONCE = 128  # neurons whose logits are held at a time


class Effects(SitePart):
    """Direct logit attribution: a neuron's output direction through the final LayerNorm's gain and the head.

    Rows of the head without a token (a vocabulary padded to a round number) are left out.

    Only the direct path counts; the effect through later layers is measured by ``causality``. LayerNorm removes the
    direction's mean and divides by a standard deviation, taken here as 1, so figures are comparable only within a
    model.

    Args:
        sites: globs of sites that write into the residual stream or are in its basis.
        top: token types kept per neuron, in each direction.
    """

    streams = False

    def __init__(self, sites: str | Iterable[str], top: int) -> None:
        super().__init__(sites)
        self.top = top

    def inapplicable(self, subject: Subject) -> str:
        return "" if isinstance(subject.net, Readable) else "the network does not expose the weights of its neurons"

    def attach(self, subject: Subject) -> None:
        assert isinstance(subject.net, Readable)
        self.net, self.widths = subject.net, subject.widths
        self.chosen = self.sites(subject.widths)
        self.ids = torch.from_numpy(subject.stories.vocabulary).to(subject.device)

    def compute(self) -> Result:
        arrays: dict[str, Array] = {}
        values: dict[str, dict[str, float]] = {}
        for site in self.chosen:
            written = written_by(self.net, site).to(self.net.dtype)
            read = read_by(self.net, site, self.widths[site]).to(written.device)
            promoted, suppressed, kurtosis = self._attribution(written)
            named = {"promoted": promoted, "suppressed": suppressed}
            for name, best in named.items():
                arrays[f"{site}/{name}"] = array(best.indices.int(), "width", "rank")
                arrays[f"{site}/{name}_logit"] = array(best.values, "width", "rank", unit="logits")
            norms = {"output_norm": written.float().norm(dim=0), "input_norm": read.float().norm(dim=1)}
            arrays |= per_neuron(site, **norms, logit_kurtosis=kurtosis)
            values[site] = {
                "output_norm": float(written.norm(dim=0).mean()),
                "input_norm": float(read.norm(dim=1).mean()),
                "logit_kurtosis": mean_defined(kurtosis),
            }
        return Result(by_layer(values), arrays)

    def _attribution(
        self, written: Float[Tensor, "d_model width"]
    ) -> tuple[torch.return_types.topk, torch.return_types.topk, Float[Tensor, "width"]]:
        top, found = min(self.top, len(self.ids)), []
        for directions in written.split(AT_ONCE, 1):
            logits = self.net.direct_logits(directions)[self.ids].T.float()
            logits -= logits.mean(1, keepdim=True)
            square = logits.square().mean(1)
            kurtosis = logits.pow(4).mean(1) / square.square()
            found.append((*logits.topk(top, 1), *logits.topk(top, 1, largest=False), kurtosis))
        high, high_at, low, low_at, kurtosis = (torch.cat(each) for each in zip(*found, strict=True))
        promoted, suppressed = (
            torch.return_types.topk((values, self.ids[at])) for values, at in ((high, high_at), (low, low_at))
        )
        return promoted, suppressed, kurtosis


def written_by(net: Readable, site: str) -> Float[Tensor, "d_model width"]:
    """Output weights of each neuron of a site, one column per neuron.

    Raises:
        ValueError: the site does not write into the residual stream.
    """
    written = net.writes(site)
    if written is None:
        raise ValueError(f"{site} does not write into the residual stream: it has no direct effect on logits")
    return written


def read_by(net: Readable, site: str, width: int) -> Float[Tensor, "width d_model"]:
    """Input weights of each neuron of a site, one row per neuron; NaN if it has none."""
    read = net.reads(site)
    return torch.full((width, 1), torch.nan) if read is None else read
