"""Token-weighted means of a step's scalars since they were last read."""

import math

import torch
from torch import Tensor
from torchmetrics import Metric


class StepMeans(Metric):
    """One vector on the device, so that a step neither waits for it nor pays for it scalar by scalar.

    Not-a-numbers stay in the sums until they are read: the sums are the flag that says a step went wrong, and
    ``broken_at`` remembers in which update each scalar first did. The state is part of the checkpoint, so that a
    resumed run logs what an uninterrupted one does.
    """

    full_state_update = False
    sums: Tensor
    tokens: Tensor
    updates: Tensor
    broken_at: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.names: tuple[str, ...] = ()
        self.add_state("sums", torch.zeros(0), dist_reduce_fx="sum", persistent=True)
        self.add_state("updates", torch.zeros(()), dist_reduce_fx="max", persistent=True)
        self.add_state("broken_at", torch.zeros(0), dist_reduce_fx="min", persistent=True)
        self.add_state("tokens", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum", persistent=True)

    def update(self, values: dict[str, Tensor], tokens: int) -> None:
        """Take in scalars that are means over ``tokens`` tokens. Every step has the same names."""
        self.names = tuple(values)
        stacked = torch.stack([value.detach().double() for value in values.values()]) * tokens
        if not len(self.sums):
            self.sums, self.broken_at = torch.zeros_like(stacked), torch.full_like(stacked, torch.inf)
        self.sums = self.sums + stacked
        broken_now = torch.where(stacked.isfinite(), torch.inf, self.updates)
        self.broken_at = torch.minimum(self.broken_at, broken_now)
        self.updates = self.updates + 1
        self.tokens += tokens

    def compute(self) -> dict[str, Tensor]:
        """The mean of each scalar, and the number of ``tokens``, over all processes."""
        means = (self.sums / self.tokens).unbind()
        return {**dict(zip(self.names, means, strict=True)), "tokens": self.tokens}

    def broken(self) -> tuple[str, ...]:
        """The scalars that were not finite in the first update in which any was, on any process; waits for it."""
        with self.sync_context(dist_sync_fn=self.dist_sync_fn, should_sync=self._to_sync):
            updates = dict(zip(self.names, self.broken_at.tolist(), strict=False))
        first = min(updates.values(), default=math.inf)
        return tuple(name for name, update in updates.items() if update == first < math.inf)
