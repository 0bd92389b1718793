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
# weight; a GPU wants large products.
CHUNK = {"cpu": 256}
CHUNK_ELSEWHERE = 2048

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


class _LinearCrossEntropy(Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, hidden: Tensor, weight: Tensor, targets: Tensor, soft_max_: SoftMax, with_gradient: bool
    ) -> tuple[Tensor, Tensor]:
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        h, w = hidden.to(dtype), weight.to(dtype)
        nll = torch.empty(targets.shape, dtype=torch.float32, device=hidden.device)
        rows = max(1, min(len(targets), CHUNK.get(device, CHUNK_ELSEWHERE)))
        # Large buffers are allocated once: allocating them per chunk costs a CPU a third of its time in page faults.
        products = torch.empty(rows, len(weight), dtype=dtype, device=hidden.device)
        if with_gradient:
            # With another dtype, products are accumulated in the weight's dtype through a buffer; otherwise the first
            # product overwrites.
            grad_product = None if dtype == weight.dtype else torch.empty_like(w)
            make = torch.zeros_like if grad_product is not None or not len(targets) else torch.empty_like
            grad_hidden, grad_weight = torch.empty_like(h), make(weight)
        each = 1 / max(1, len(targets))  # gradients are of the mean; scaling inside the products is free
        with torch.autocast(device, enabled=False):
            for start in range(0, len(targets), rows):
                chunk = slice(start, min(start + rows, len(targets)))
                target = targets[chunk, None]
                logits = torch.mm(h[chunk], w.T, out=products[: len(target)])
                log_p = soft_max_(logits, target, weight.dtype, with_gradient)
                nll[chunk] = -log_p.squeeze(-1)
                if with_gradient:
                    residual = logits.scatter_(-1, target, torch.expm1(log_p).to(dtype))  # p - 1 at the target
                    torch.mm(residual, w, out=grad_hidden[chunk])
                    if grad_product is None:
                        grad_weight.addmm_(residual.T, h[chunk], beta=int(start > 0), alpha=each)
                    else:
                        torch.mm(residual.T, h[chunk], out=grad_product)
                        grad_weight.add_(grad_product, alpha=each)
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
