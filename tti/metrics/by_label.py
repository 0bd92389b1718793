"""The loss for each value of a label, such as each task of a multi-task corpus."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchmetrics import Metric

from tti.step import Step


def sums_by_label(
    values: Float[Tensor, "row"], labels: Int[Tensor, "row"], count: int
) -> tuple[Float[Tensor, "label"], Float[Tensor, "label"]]:
    """Sum of the values under each of ``count`` labels, and the number of values."""
    zeros = torch.zeros(count, dtype=torch.float64, device=values.device)
    return zeros.index_add(0, labels, values.double()), zeros.index_add(0, labels, torch.ones_like(values).double())


class LossByLabel(Metric):
    """Mean cross-entropy in nats of the rows under each value of a label, as ``loss/<value>``.

    Args:
        label: name of the label in ``Batch.labels``.
        values: names of its values 0, 1, …
    """

    full_state_update = False
    nll: Tensor
    rows: Tensor

    def __init__(self, label: str, values: Sequence[str]) -> None:
        super().__init__()
        self.label, self.values = label, tuple(values)
        self.add_state("nll", torch.zeros(len(values), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("rows", torch.zeros(len(values), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, step: Step) -> None:
        """Add the rows of one step."""
        nll, rows = sums_by_label(step.nll, step.batch.labels[self.label], len(self.values))
        self.nll += nll
        self.rows += rows

    def compute(self) -> dict[str, Tensor]:
        """Losses of the values that occurred."""
        there = (self.rows > 0).tolist()
        losses = (self.nll / self.rows).unbind()
        return {f"loss/{value}": loss for value, loss, some in zip(self.values, losses, there, strict=True) if some}
