"""Load balance: the router should use all experts equally."""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor

from tti.models.network import Site
from tti.regularizers.base import Regularizer
from tti.regularizers.processes import over_processes
from tti.step import Step

LOGITS, GATES = ".router_logits", ".gates"


class LoadBalance(Regularizer):
    """``E * sum_i f_i P_i`` per layer, averaged over layers (Fedus, Zoph & Shazeer 2022, "Switch Transformers", eq. 4).

    ``f_i`` is the share of assignments that expert ``i`` gets (over all top-k choices, so that they sum to 1), without
    gradient; ``P_i`` is the mean router probability. The penalty is 1 if both are even, and ``E / k`` if all tokens
    choose the same ``k`` experts with certainty. It is computed over the tokens in the loss of one micro-batch of all
    processes, and separately for each layer: layers that collapse onto different experts still count as collapsed.

    How it can be gamed: as a product of means, it is also 1 for a router that is even on average but sends each kind of
    token to one expert. On a batch of a single task it opposes specialization by task.

    Raises:
        ValueError: a site is not a router's logits (``blocks.*.mlp.router_logits``).
    """

    def attach(self, sites: Mapping[str, Site]) -> None:
        super().attach(sites)
        self.logits = self.sites
        if strangers := [site for site in self.logits if not site.endswith(LOGITS)]:
            raise ValueError(f"load_balance acts on blocks.*.mlp.router_logits, not on {', '.join(strangers)}")
        self.sites += tuple(map(_gates, self.logits))

    def forward(self, step: Step) -> Float[Tensor, ""]:
        penalties = [balance(step.activations[site], step.activations[_gates(site)]) for site in self.logits]
        return sum(penalties[1:], penalties[0]) / len(penalties)


def balance(logits: Float[Tensor, "row expert"], gates: Float[Tensor, "row expert"]) -> Float[Tensor, ""]:
    """The penalty of one layer."""
    assigned = over_processes((gates.detach() > 0).float().mean(0), len(gates))
    probability = over_processes(logits.float().softmax(-1).mean(0), len(logits))
    return logits.shape[1] * (assigned / assigned.sum().clamp_min(1e-6) * probability).sum()


def _gates(site: str) -> str:
    return site.removesuffix(LOGITS) + GATES
