"""Decoder-weighted L1: hidden neurons should write little into the residual stream."""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor

from tti.models.network import Readable, Site
from tti.regularizers.base import Regularizer
from tti.step import Step


class DecoderL1(Regularizer):
    """``mean_t sum_j |a[t, j]| * ||W_out[:, j]||``, averaged over the sites; a sum over neurons, not a mean.

    The sparsity term of Anthropic's April 2024 update on sparse autoencoders, applied to an MLP's own hidden layer and
    output matrix. Unlike plain L1, it cannot be lowered by shrinking a neuron while its output column grows.

    How it can be gamed: by writing little of everything, which the LayerNorm after the residual stream undoes.

    Raises:
        ValueError: a site is not the input of an MLP's output matrix (``blocks.*.mlp.post``).
    """

    def attach(self, sites: Mapping[str, Site]) -> None:
        super().attach(sites)
        strangers = [site for site in self.sites if not site.endswith(".mlp.post")]
        if strangers:
            raise ValueError(f"decoder_l1 acts on blocks.*.mlp.post, the input of an output matrix, not on {strangers}")

    def forward(self, step: Step) -> Float[Tensor, ""]:
        penalties = [self._penalty(site, step) for site in self.sites]
        return sum(penalties[1:], penalties[0]) / len(penalties)

    def _penalty(self, site: str, step: Step) -> Float[Tensor, ""]:
        assert isinstance(step.model, Readable)
        written = step.model.writes(site)
        assert written is not None
        size = step.activations[site].float().abs().mean(0)
        return size @ written.float().norm(dim=0)
