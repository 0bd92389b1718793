"""Statistics over the rows of all processes of an optimizer step, for penalties that are not linear in the rows."""

import torch
from jaxtyping import Float
from torch import Tensor, distributed


def over_processes(statistic: Float[Tensor, "..."], rows: int) -> Float[Tensor, "..."]:
    """The mean of a statistic over all processes, weighted by their rows.

    Its gradient is that of this process's own statistic. Gradients are averaged over processes with ``Batch.share`` as
    weight, so that together they are the gradient of a function of the mean. Micro-batches that are accumulated stay
    apart: the first is differentiated before the last is seen.

    Args:
        statistic: a mean over this process's rows.
        rows: how many there are.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return statistic
    own = statistic.detach()
    sums = torch.cat([own.flatten() * rows, own.new_full((1,), rows)])
    distributed.all_reduce(sums)
    return statistic + (sums[:-1] / sums[-1]).view_as(own) - own
