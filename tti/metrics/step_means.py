"""Token-weighted means of a step's scalars since they were last read."""

import torch
from torch import Tensor
from torchmetrics import Metric


class StepMeans(Metric):
    """One vector on the device, so that a step neither waits for it nor pays for it scalar by scalar.

    Not-a-numbers stay in the sums until they are read: the sums are the flag that says a step went wrong. The state
    is part of the checkpoint, so that a resumed run logs what an uninterrupted one does.
    """

    full_state_update = False
    sums: Tensor
    tokens: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.names: tuple[str, ...] = ()
        self.add_state("sums", torch.zeros(0), dist_reduce_fx="sum", persistent=True)
        self.add_state("tokens", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum", persistent=True)

    def update(self, values: dict[str, Tensor], tokens: int) -> None:
        """Take in scalars that are means over ``tokens`` tokens. Every step has the same names."""
        self.names = tuple(values)
        stacked = torch.stack([value.detach().double() for value in values.values()]) * tokens
        self.sums = self.sums + stacked if len(self.sums) else stacked
        self.tokens += tokens

    def compute(self) -> dict[str, Tensor]:
        """The mean of each scalar, and the number of ``tokens``, over all processes."""
        means = (self.sums / self.tokens).unbind()
        return {**dict(zip(self.names, means, strict=True)), "tokens": self.tokens}

    def pending(self) -> dict[str, float]:
        """The sums of this process that nobody has read yet; waits for the device."""
        return dict(zip(self.names, self.sums.tolist(), strict=False))
