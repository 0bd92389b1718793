"""Cross-entropy of a linear head without ever holding all the logits.

The rows go through the head in chunks; the gradient of a chunk is made while its logits are at hand (as in the "cut"
and Liger cross-entropies), so that memory is ``chunk x vocab`` instead of ``token x vocab``, and nothing is computed
twice.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx, once_differentiable

# Tokens at a time: few stay near a CPU's caches, but every chunk goes through the weight's whole gradient once; a GPU
# wants large products.
CHUNK = {"cpu": 256}
CHUNK_ELSEWHERE = 2048

SoftMax = Callable[[Tensor, Tensor, torch.dtype, bool], Tensor]


def soft_max_(
    logits: Float[Tensor, "row vocab"], target: Int[Tensor, "row 1"], dtype: torch.dtype, with_probabilities: bool
) -> Float[Tensor, "row 1"]:
    """The log of each row's probability of its target, computed in ``dtype``; leaves ``logits`` overwritten, with the
    probabilities if they are wanted.

    As it stands it goes through the rows four times, and through a copy of them if they have another dtype. Compiled it
    reads them, makes the sums, and writes.
    """
    log_p = logits.to(dtype)  # no copy where it is theirs
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
    """Mean cross-entropy in nats of ``softmax(hidden @ weight.T)``, and each token's own, detached.

    Under autocast the products run in its dtype; soft-max, sums and the weight's gradient in the weight's. The mean can
    be differentiated once, and may be scaled by anything. ``soft_max_`` may be a compiled one.
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
        # The large buffers are made once: fresh ones for every chunk cost a CPU a third of its time in page faults.
        products = torch.empty(rows, len(weight), dtype=dtype, device=hidden.device)
        if with_gradient:
            # Products of another dtype are added up in the weight's through a buffer; of its own, the first overwrites.
            grad_product = None if dtype == weight.dtype else torch.empty_like(w)
            make = torch.zeros_like if grad_product is not None or not len(targets) else torch.empty_like
            grad_hidden, grad_weight = torch.empty_like(h), make(weight)
        each = 1 / max(1, len(targets))  # gradients are of the mean; scaling inside the products costs nothing
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
        # In place: a fresh copy of the weight's gradient costs more than scaling it. A second backward is refused, as
        # autograd sees that what was saved has changed.
        grad_hidden, grad_weight = ctx.saved_tensors  # type: ignore[attr-defined]
        return grad_hidden.mul_(grad), grad_weight.mul_(grad), None, None, None
