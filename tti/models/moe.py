"""Mixture of experts: each token is processed by a few of many MLPs, chosen by a router."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn.functional import gelu

from tti.models.mlp import MLP, DenseMLP, Draws, FeedForward
from tti.models.routing import Router
from tti.models.stories import Stories
from tti.models.symmetry import folded
from tti.models.taps import Tap, hears


class GroupedLinear(nn.Module):
    """One linear map per group of rows; ``weight`` is ``[group, out, in]``."""

    bias: Float[Tensor, "group out"] | None

    def __init__(self, weight: Float[Tensor, "group out in"], bias: Float[Tensor, "group out"] | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = None if bias is None else nn.Parameter(bias)

    def forward(
        self, rows: Float[Tensor, "row in"], group: Int[Tensor, "row"], ends: Int[Tensor, "group"]
    ) -> Float[Tensor, "row out"]:
        """Map rows sorted by group; ``ends`` (int32) holds the end of each group."""
        mapped = products(rows, self.weight, ends)
        return mapped if self.bias is None else mapped + self.bias[group]


def products(
    rows: Float[Tensor, "row in"], weight: Float[Tensor, "group out in"], ends: Int[Tensor, "group"]
) -> Float[Tensor, "row out"]:
    """``weight[g] @ row`` for the rows of each group ``g``.

    In bfloat16 on a GPU this is one kernel. Otherwise it is one product per group, which needs the group sizes on the
    host: free on a CPU, one synchronization on a GPU.
    """
    device = rows.device.type
    if device == "meta":  # shapes only
        return rows.new_empty(len(rows), weight.shape[1])
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else rows.dtype
    if device == "cuda" and dtype == torch.bfloat16:
        return torch._grouped_mm(rows.to(dtype), weight.to(dtype).transpose(1, 2), offs=ends)
    product: Tensor = _Products.apply(rows.to(dtype), weight.to(dtype), ends[:-1].long().cpu())
    return product


class _Products(Function):
    """One product per group. Autograd's own gradient of a part would be as large as all rows, for each group."""

    @staticmethod
    def forward(ctx: FunctionCtx, rows: Tensor, weight: Tensor, cuts: Tensor) -> Tensor:
        ctx.save_for_backward(rows, weight, cuts)
        parts = rows.tensor_split(cuts)
        return torch.cat([part @ each.T for part, each in zip(parts, weight, strict=True)])

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        rows, weight, cuts = ctx.saved_tensors  # type: ignore[attr-defined]
        parts, grads = rows.tensor_split(cuts), grad.tensor_split(cuts)
        of_rows, of_weight = torch.empty_like(rows), torch.empty_like(weight)
        split = of_rows.tensor_split(cuts)
        for i, (each, part) in enumerate(zip(grads, parts, strict=True)):
            torch.mm(each, weight[i], out=split[i])
            torch.mm(each.T, part, out=of_weight[i])
        return of_rows, of_weight, None


@dataclass(frozen=True)
class Visits:
    """The (token, expert) pairs of a batch, sorted by expert.

    Attributes:
        token, expert: index of the token and of the expert of each visit.
        ends: end of each expert's visits.
        order: index of each visit in the flattened ``[token, k]``.
        shape: number of tokens and of experts.
    """

    token: Int[Tensor, "visit"]
    expert: Int[Tensor, "visit"]
    ends: Int[Tensor, "expert"]
    order: Int[Tensor, "visit"]
    shape: tuple[int, int]

    @classmethod
    def of(cls, chosen: Int[Tensor, "token k"], experts: int) -> "Visits":
        """Sort the visits, stably and without synchronization."""
        flat = chosen.flatten()
        order = flat.argsort(stable=True)
        expert = flat[order]
        numbers = torch.arange(experts, device=chosen.device)
        ends = torch.searchsorted(expert, numbers, right=True, out_int32=True)
        return cls(order // chosen.shape[1], expert, ends, order, (len(chosen), experts))

    def spread(self, acts: Float[Tensor, "visit width"]) -> Float[Tensor, "token experts*width"]:
        """All experts' neurons concatenated, 0 where a token did not visit the expert."""
        wide = acts.new_zeros(*self.shape, acts.shape[1])
        return wide.index_put((self.token, self.expert), acts).flatten(1)

    def gathered(self, wide: Float[Tensor, "token experts*width"]) -> Float[Tensor, "visit width"]:
        """The inverse of :meth:`spread`."""
        return wide.unflatten(1, (self.shape[1], -1))[self.token, self.expert]

    def summed(self, written: Float[Tensor, "visit d"]) -> Float[Tensor, "token d"]:
        """The sum over each token's visits, in order of choice."""
        by_choice = torch.empty_like(self.order).scatter(0, self.order, torch.arange(len(self.order)).to(self.order))
        return written.index_select(0, by_choice).unflatten(0, (self.shape[0], -1)).sum(1)


class MixtureOfExperts(FeedForward):
    """``sum over the chosen experts e of gate_e * out_e(hidden(inp_e(x)))`` (Shazeer et al. 2017, equation 1).

    No token is dropped and nothing is padded: visits are sorted by expert and each expert maps its own, so a token
    costs the weights of the experts that it visits. Shared experts process every token with gate 1 (Dai et al. 2024,
    DeepSeekMoE).

    The hidden layer has the usual sites, with the experts' neurons concatenated, shared experts first: ``pre``, and
    ``post``, which is gate times activation, the input of the output matrices. At both, a neuron is 0 where the token
    did not visit its expert. They are laid out only if a tap uses them. ``experts.<j>.post`` are the parts of ``post``;
    the router adds ``router_logits`` and ``gates``.

    Args:
        d_model: width of the residual stream.
        expert: makes an MLP whose hidden layer all experts use; it may have no weights besides its two matrices.
        router: makes the router from ``d_model`` and the number of experts to choose from.
        experts: number of experts to choose from.
        shared: number of experts that process every token.

    Raises:
        ValueError: the expert MLP has further weights, or the router refuses the number of experts.
    """

    def __init__(
        self,
        d_model: int,
        expert: Callable[[int], MLP],
        router: Callable[[int, int], Router],
        experts: int,
        shared: int = 0,
    ) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):  # so that all else begins as with a dense MLP
            self.hidden = expert(d_model)
            self.router = router(d_model, experts)
            width, count = self.hidden.width, shared + experts
            self.inp = GroupedLinear(torch.randn(count, width, d_model) / d_model**0.5)
            self.out = GroupedLinear(torch.randn(count, d_model, width) / width**0.5)
        if further := {name for name, _ in self.hidden.named_parameters()} - {"inp.weight", "out.weight"}:
            raise ValueError(
                f"an expert cannot be a {type(self.hidden).__name__} with {', '.join(sorted(further))}: each expert "
                "has an input and an output matrix only"
            )
        self.d_ff, self.shared = width, shared
        del self.hidden.inp, self.hidden.out
        self.by_token, self.needs, self.groups = self.router.by_token, self.router.needs, self.router.groups
        self._stand_in = (DenseMLP(d_model, self._visited * self.d_ff, gelu),)  # no module; see Draws

    def forward(self, x: Float[Tensor, "token d_model"], tap: Tap) -> Float[Tensor, "token d_model"]:
        return self.among(x, None, tap)

    def among(
        self, x: Float[Tensor, "token d_model"], layout: Stories | None, tap: Tap
    ) -> Float[Tensor, "token d_model"]:
        chosen, gates = self._with_shared(*self.router(x, layout, tap))
        visits = Visits.of(chosen, len(self.inp.weight))
        pre = self.inp(x.index_select(0, visits.token), visits.expert, visits.ends)
        if hears(tap, "pre"):
            pre = visits.gathered(tap("pre", visits.spread(pre)))
        post = self.hidden.hidden(pre) * gates.flatten()[visits.order, None].to(pre.dtype)
        if not any(hears(tap, site) for site in ("post", *self._parts)):
            return visits.summed(self.out(post, visits.expert, visits.ends))
        parts = visits.spread(post).split(self.d_ff, 1)
        parts = [tap(site, part) for site, part in zip(self._parts, parts, strict=True)]
        written = self.writes("post")
        assert written is not None
        return tap("post", torch.cat(parts, 1)) @ written.T.to(post.dtype)

    def _with_shared(
        self, chosen: Int[Tensor, "token k"], gates: Float[Tensor, "token k"]
    ) -> tuple[Int[Tensor, "token visited"], Float[Tensor, "token visited"]]:
        if not self.shared:
            return chosen, gates
        always = torch.arange(self.shared, device=chosen.device).expand(len(chosen), -1)
        return torch.cat([always, chosen + self.shared], 1), torch.cat([torch.ones_like(always).to(gates), gates], 1)

    @property
    def _visited(self) -> int:
        return self.shared + self.router.top_k

    @property
    def _parts(self) -> list[str]:
        return [f"experts.{j}.post" for j in range(len(self.inp.weight))]

    @property
    def described(self) -> str:
        always = f", besides {self.shared} that all tokens visit" * bool(self.shared)
        choice = f"each token visits {self.router.top_k} of {len(self._parts) - self.shared}{always}"
        return f"mixtures of experts of {self.d_ff} neurons: {choice}"

    def draws(self, std: float, residual_std: float) -> Draws:
        """Draws of a dense MLP with as many neurons as a token visits, then those of the experts and the router."""
        added = [(self.inp.weight, std), (self.out.weight, residual_std), (self.router.score.weight, std)]
        return self._stand_in[0].draws(std, residual_std)._replace(added=added)

    @property
    def weights_per_token(self) -> int:
        """Number of weights of the visited experts and the router."""
        each = self.inp.weight[0].numel() + self.out.weight[0].numel()
        return self._visited * each + self.router.score.weight.numel()

    def writes(self, site: str) -> Float[Tensor, "d_model width"] | None:
        if site == "post":
            return self.out.weight.transpose(0, 1).flatten(1)
        return self.out.weight[self._parts.index(site)] if site in self._parts else None

    def reads(self, site: str) -> Float[Tensor, "width d_model"] | None:
        if site in ("pre", "post"):
            return self.inp.weight.flatten(0, 1)
        if site in self._parts:
            return self.inp.weight[self._parts.index(site)]
        return self.router.score.weight if site == "router_logits" else None

    @property
    def width(self) -> int:
        """Hidden neurons per expert; a permutation is applied within each expert."""
        return self.d_ff

    def permute(self, order: Int[Tensor, "width"]) -> None:
        for parameter in self.inp.parameters():
            parameter.data = parameter[:, order]
        self.out.weight.data = self.out.weight[:, :, order]

    def rotate(self, norm: nn.LayerNorm, rotation: Float[Tensor, "d_model d_model"]) -> None:
        read, bias = self.inp.weight, 0 if self.inp.bias is None else self.inp.bias
        self.inp = GroupedLinear(read * norm.weight @ rotation, read @ norm.bias + bias)
        self.router.score = folded(self.router.score, norm, rotation)
        self.out.weight.data = rotation.T @ self.out.weight
