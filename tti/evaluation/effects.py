"""Effects: which next tokens each neuron speaks for, by its weights alone."""

from collections.abc import Iterable, Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from tti.data.tokenizers import token_ids
from tti.evaluation.base import SitePart, Subject, array, by_layer, mean_defined, per_neuron
from tti.evaluation_folder import Array, Result
from tti.models.gpt import GPT, Block
from tti.models.taps import kind_of

AT_ONCE = 128  # neurons whose logits are held


class Effects(SitePart):
    """Direct logit attribution: a neuron's output direction through the final LayerNorm's gain and the head.

    The direct path only; what later layers make of it is not in it (``causality`` has that). LayerNorm takes away the
    direction's mean and divides by a standard deviation that is taken as 1, so figures compare within a model only.
    Rows of the head that stand for no token, which pad a vocabulary or fill gaps, are left out.

    Args:
        subjects: see :class:`Part`.
        sites: globs; those that write into the residual stream, or are in its basis.
        top: token types kept a neuron, each way.
    """

    streams = False

    def __init__(self, subjects: Sequence[str], sites: str | Iterable[str], top: int) -> None:
        super().__init__(subjects, sites)
        self.top = top

    def attach(self, subject: Subject) -> None:
        self.net = subject.net
        self.ids = torch.from_numpy(token_ids(subject.stories.packed.tokenizer())).to(subject.device)
        self.sites(subject.net.sites)

    def compute(self) -> Result:
        arrays: dict[str, Array] = {}
        values: dict[str, dict[str, float]] = {}
        for site in self.chosen:
            written = written_by(self.net, site)
            read = read_by(self.net, site)
            promoted, suppressed, kurtosis = self._attribution(written)
            named = {"promoted": promoted, "suppressed": suppressed}
            for name, best in named.items():
                arrays[f"{site}/{name}"] = array(best.indices.int(), "width", "rank")
                arrays[f"{site}/{name}_logit"] = array(best.values, "width", "rank", unit="logits")
            norms = {"output_norm": written.norm(dim=0), "input_norm": read.norm(dim=1)}
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
        head, gain = self.net.embed.weight[self.ids], self.net.ln_final.weight
        top, found = min(self.top, len(head)), []
        for directions in (written - written.mean(0)).split(AT_ONCE, 1):
            logits = (head @ (gain[:, None] * directions)).T
            logits -= logits.mean(1, keepdim=True)
            square = logits.square().mean(1)
            kurtosis = logits.pow(4).mean(1) / square.square()
            (high, promoted), (low, suppressed) = logits.topk(top, 1), logits.topk(top, 1, largest=False)
            found.append((high, self.ids[promoted], low, self.ids[suppressed], kurtosis))
        high, high_at, low, low_at, kurtosis = (torch.cat(each) for each in zip(*found, strict=True))
        return torch.return_types.topk((high, high_at)), torch.return_types.topk((low, low_at)), kurtosis


def written_by(net: GPT, site: str) -> Float[Tensor, "d_model width"]:
    """What each neuron of a site adds to the residual stream, a column a neuron.

    Raises:
        ValueError: the site does not write there.
    """
    block, kind = _block(net, site), kind_of(site)
    writers = {"mlp.post": lambda: block.mlp.out.weight, "attn.z": lambda: block.attn.out.weight}
    if kind in writers:
        return writers[kind]()
    if net.sites[site] != net.embed.weight.shape[1] or kind.endswith("normalized") or kind.startswith("attn."):
        raise ValueError(f"{site} does not write into the residual stream: it has no direct effect on logits")
    return torch.eye(net.sites[site], device=net.embed.weight.device)


def read_by(net: GPT, site: str) -> Float[Tensor, "width d_model"]:
    """The weights that each neuron of a site reads the stream with, a row a neuron; not numbers where it has none."""
    mlp = _block(net, site).mlp
    if kind_of(site) == "mlp.post" and mlp.residual_reader is mlp:
        return mlp.inp.weight
    return torch.full((net.sites[site], 1), torch.nan, device=net.embed.weight.device)


def _block(net: GPT, site: str) -> Block:
    return blocks_of(net)[int(site.split(".")[1]) if site.startswith("blocks.") else 0]


def blocks_of(net: GPT) -> list[Block]:
    """The blocks, as what they are."""
    return [cast(Block, block) for block in net.blocks]
