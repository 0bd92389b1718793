"""Token-weighted means of each step's scalars since the last read."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric


class StepMeans(Metric):
    """Means kept in one vector on the device, so that a step neither waits for them nor handles them one by one.

    The first update fixes the names. A scalar that is absent from a later update, or whose count is 0, has weight 0
    there, so that the losses of single tasks can come and go.

    A NaN stays in the sums until they are read, which shows that a step went wrong; ``broken_at`` records the update in
    which each scalar first did. The state is part of the checkpoint, so that a resumed run logs the same as an
    uninterrupted one.
    """

    full_state_update = False
    sums: Tensor
    counts: Tensor
    tokens: Tensor
    updates: Tensor
    broken_at: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.names: tuple[str, ...] = ()
        self.add_state("sums", torch.zeros(0), dist_reduce_fx="sum", persistent=True)
        self.add_state("counts", torch.zeros(0), dist_reduce_fx="sum", persistent=True)
        self.add_state("updates", torch.zeros(()), dist_reduce_fx="max", persistent=True)
        self.add_state("broken_at", torch.zeros(0), dist_reduce_fx="min", persistent=True)
        self.add_state("tokens", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum", persistent=True)

    def update(self, values: Mapping[str, Tensor], tokens: int, counts: Mapping[str, Tensor] = {}) -> None:
        """Add scalars that are means over ``tokens`` tokens, or over the number in ``counts``.

        Raises:
            ValueError: a name was not in the first update, so it has no place in the vector.
        """
        self.names = self.names or tuple(values)
        if values.keys() - set(self.names):
            raise ValueError(
                f"new scalars in a step: {', '.join(sorted(values.keys() - set(self.names)))}; the first step had "
                f"{', '.join(self.names)}. Give all names from the first step on, with a count of 0 if absent"
            )
        weighted, weights = self._whole(values, tokens) if not counts else self._partial(values, tokens, counts)
        if not len(self.sums):
            self.sums, self.broken_at = torch.zeros_like(weighted), torch.full_like(weighted, torch.inf)
            self.counts = torch.zeros_like(weighted)
        self.sums = self.sums + weighted
        self.counts = self.counts + weights
        broken_now = torch.where(weighted.isfinite(), torch.inf, self.updates)
        self.broken_at = torch.minimum(self.broken_at, broken_now)
        self.updates = self.updates + 1
        self.tokens += tokens

    def _whole(self, values: Mapping[str, Tensor], tokens: int) -> tuple[Tensor, Tensor | int]:
        if len(values) < len(self.names):
            return self._partial(values, tokens, {})
        return self._stacked(values) * tokens, tokens

    def _partial(
        self, values: Mapping[str, Tensor], tokens: int, counts: Mapping[str, Tensor]
    ) -> tuple[Float[Tensor, "scalar"], Float[Tensor, "scalar"]]:
        some = next(iter(values.values()))
        absent = dict.fromkeys(self.names, torch.zeros_like(some))
        here = dict.fromkeys(values, torch.full_like(some, tokens))
        weights = self._stacked(absent | here | {name: count.to(some) for name, count in counts.items()})
        return torch.where(weights > 0, self._stacked(absent | dict(values)) * weights, 0), weights

    def _stacked(self, values: Mapping[str, Tensor]) -> Float[Tensor, "scalar"]:
        return torch.stack([values[name].detach().double() for name in self.names])

    def compute(self) -> dict[str, Tensor]:
        """Mean of each scalar that had tokens, and the number of ``tokens``, over all processes."""
        there = (self.counts > 0).tolist()
        means = (self.sums / self.counts).unbind()
        found = {name: mean for name, mean, some in zip(self.names, means, there, strict=True) if some}
        return {**found, "tokens": self.tokens}

    def broken(self) -> tuple[str, ...]:
        """Scalars that were not finite in the first update in which any was, on any process; waits for it."""
        with self.sync_context(dist_sync_fn=self.dist_sync_fn, should_sync=self._to_sync):
            updates = dict(zip(self.names, self.broken_at.tolist(), strict=False))
        first = min(updates.values(), default=math.inf)
        return tuple(name for name, update in updates.items() if update == first < math.inf)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        if f"{prefix}counts" not in state_dict and f"{prefix}sums" in state_dict:  # written before counts existed
            tokens = state_dict[f"{prefix}tokens"]
            state_dict[f"{prefix}counts"] = tokens.double().expand(len(state_dict[f"{prefix}sums"])).clone()
        super()._load_from_state_dict(state_dict, prefix, *arguments)
