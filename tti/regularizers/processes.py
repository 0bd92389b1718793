"""Statistics over the rows of all processes of an optimizer step, for penalties that are not linear in the rows."""

import torch
from jaxtyping import Float
from torch import Tensor, distributed


def over_processes(statistic: Float[Tensor, "..."], rows: int) -> Float[Tensor, "..."]:
    """The mean of a statistic over all processes, weighted by their rows.

    Its gradient is that of this process's own statistic. Since gradients are averaged over processes, weighted by
    ``Batch.share``, the result is the gradient of a function of the mean. Accumulated micro-batches are not combined:
    the first is differentiated before the last is computed.

    Args:
        statistic: a mean over this process's rows.
        rows: number of these rows.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return statistic
    own = statistic.detach()
    sums = torch.cat([own.flatten() * rows, own.new_full((1,), rows)])
    distributed.all_reduce(sums)
    return statistic + (sums[:-1] / sums[-1]).view_as(own) - own
