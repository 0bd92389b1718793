"""Cross-entropy of a linear head that never materializes all logits.

The rows go through the head in chunks, and each chunk's gradient is computed while its logits are in memory (as in the
"cut" and Liger cross-entropies). Memory is ``chunk x vocab`` instead of ``token x vocab``, and nothing is computed
twice.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx, once_differentiable

# Tokens per chunk. Small chunks stay in a CPU's caches, but each chunk passes once over the whole gradient of the
# weight, which weighs more the faster the products are; a GPU wants large products.
CHUNK = {("cpu", torch.float32): 256, ("cpu", torch.bfloat16): 640}
CHUNK_ELSEWHERE = 2048
# Rows of the weight whose gradient goes through a buffer at once, if the products have another dtype.
PART = {"cpu": 8192}

SoftMax = Callable[[Tensor, Tensor, torch.dtype, bool], Tensor]


def soft_max_(
    logits: Float[Tensor, "row vocab"], target: Int[Tensor, "row 1"], dtype: torch.dtype, with_probabilities: bool
) -> Float[Tensor, "row 1"]:
    """Log-probability of each row's target, computed in ``dtype``. Overwrites ``logits``, with the probabilities if
    ``with_probabilities``.

    Run eagerly, it makes four passes over the rows, and over a copy of them if they have another dtype. Compiled, it
    reads them, computes the sums, and writes.
    """
    log_p = logits.to(dtype)  # no copy if the dtypes are equal
    torch.log_softmax(log_p, -1, out=log_p)
    of_target = log_p.gather(-1, target)
    if with_probabilities:
        logits.copy_(log_p.exp_())
    return of_target


def linear_cross_entropy(
    hidden: Float[Tensor, "token d_model"],
    weight: Float[Tensor, "vocab d_model"],
    targets: Int[Tensor, "token"],
    soft_max_: SoftMax = soft_max_,
) -> tuple[Float[Tensor, ""], Float[Tensor, "token"]]:
    """Mean cross-entropy in nats of ``softmax(hidden @ weight.T)``, and the cross-entropy of each token, detached.

    Under autocast the matrix products run in its dtype; the softmax, the sums and the gradient of the weight use the
    weight's dtype. The mean can be differentiated once, and may be scaled by any factor. ``soft_max_`` may be a
    compiled function.
    """
    return _LinearCrossEntropy.apply(hidden, weight, targets, soft_max_, torch.is_grad_enabled())


def _add_product(
    total: Float[Tensor, "vocab d_model"],
    residual: Float[Tensor, "vocab row"],
    hidden: Float[Tensor, "row d_model"],
    each: float,
    first: bool,
    buffer: Float[Tensor, "part d_model"] | None,
) -> None:
    """``total += each * residual @ hidden``; the first product overwrites ``total``.

    Products in another dtype than ``total``'s are rounded once, and go through ``buffer``, so many rows at a time.
    """
    if buffer is None:
        total.addmm_(residual, hidden, beta=int(not first), alpha=each)
        return
    for rows, factor in zip(total.split(len(buffer)), residual.split(len(buffer)), strict=True):
        product = torch.mm(factor, hidden, out=buffer[: len(factor)]).to(total.dtype)
        if first:
            torch.mul(product, each, out=rows)
        else:
            rows.add_(product, alpha=each)


class _LinearCrossEntropy(Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, hidden: Tensor, weight: Tensor, targets: Tensor, soft_max_: SoftMax, with_gradient: bool
    ) -> tuple[Tensor, Tensor]:
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        h, w = hidden.to(dtype), weight.to(dtype)
        nll = torch.empty(targets.shape, dtype=torch.float32, device=hidden.device)
        rows = max(1, min(len(targets), CHUNK.get((device, dtype), CHUNK_ELSEWHERE)))
        # Large buffers are allocated once: allocating them per chunk costs a CPU a third of its time in page faults.
        products = torch.empty(rows, len(weight), dtype=dtype, device=hidden.device)
        number = torch.arange(rows, device=hidden.device)
        each = 1 / max(1, len(targets))  # gradients are of the mean; scaling inside the products is free
        if with_gradient:
            grad_hidden = torch.empty_like(h)
            grad_weight = torch.empty_like(weight) if len(targets) else torch.zeros_like(weight)
            part = min(len(weight), PART.get(device, len(weight)))
            buffer = None if dtype == weight.dtype else w.new_empty(part, w.shape[1])
        with torch.autocast(device, enabled=False):
            for start in range(0, len(targets), rows):
                chunk = slice(start, min(start + rows, len(targets)))
                target = targets[chunk]
                logits = torch.mm(h[chunk], w.T, out=products[: len(target)])
                log_p = soft_max_(logits, target[:, None], weight.dtype, with_gradient).squeeze(-1)
                nll[chunk] = -log_p
                if with_gradient:
                    # p - 1 at the target. (In bf16 on a CPU `scatter_` would take as long as a product.)
                    at_target = (number[: len(target)], target)
                    residual = logits.index_put_(at_target, torch.expm1(log_p).to(dtype))
                    torch.mm(residual, w, out=grad_hidden[chunk])
                    _add_product(grad_weight, residual.T, h[chunk], each, start == 0, buffer)
        if with_gradient:
            ctx.save_for_backward(grad_hidden.to(hidden.dtype).mul_(each), grad_weight)
        ctx.mark_non_differentiable(nll)
        return nll.mean(), nll

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        # In place: copying the weight's gradient costs more than scaling it. Autograd refuses a second backward pass,
        # since it sees that the saved tensors have changed.
        grad_hidden, grad_weight = ctx.saved_tensors  # type: ignore[attr-defined]
        return grad_hidden.mul_(grad), grad_weight.mul_(grad), None, None, None
