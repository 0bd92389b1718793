"""Cross-entropy of a linear head without ever holding all the logits.

The rows go through the head in chunks; the gradient of a chunk is made while its logits are at hand (as in the "cut"
and Liger cross-entropies), so that memory is ``chunk x vocab`` instead of ``token x vocab``, and nothing is computed
twice.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx, once_differentiable

# 32 Mi float32 logits at a time: large enough to keep the matrix product efficient, small beside the model.
CHUNK_LOGITS = 2**25


def linear_cross_entropy(
    hidden: Float[Tensor, "token d_model"],
    weight: Float[Tensor, "vocab d_model"],
    targets: Int[Tensor, "token"],
) -> tuple[Float[Tensor, ""], Float[Tensor, "token"]]:
    """Mean cross-entropy in nats of ``softmax(hidden @ weight.T)``, and each token's own, detached.

    Under autocast the products run in its dtype; soft-max, sums and the weight's gradient are float32. The mean can
    be differentiated once, and may be scaled by anything.
    """
    return _LinearCrossEntropy.apply(hidden, weight, targets, torch.is_grad_enabled())


class _LinearCrossEntropy(Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, hidden: Tensor, weight: Tensor, targets: Tensor, with_gradient: bool
    ) -> tuple[Tensor, Tensor]:
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        h, w = hidden.to(dtype), weight.to(dtype)
        nll = torch.empty(targets.shape, dtype=torch.float32, device=hidden.device)
        if with_gradient:
            grad_hidden, grad_weight = torch.empty_like(hidden), torch.zeros_like(weight)
        rows = max(1, CHUNK_LOGITS // weight.shape[0])
        with torch.autocast(device, enabled=False):
            for start in range(0, len(targets), rows):
                chunk = slice(start, start + rows)
                target = targets[chunk, None]
                logits = (h[chunk] @ w.T).float()
                log_normaliser = logits.logsumexp(-1, keepdim=True)
                nll[chunk] = (log_normaliser - logits.gather(-1, target)).squeeze(-1)
                if with_gradient:
                    logits.sub_(log_normaliser).exp_()
                    logits.scatter_add_(-1, target, torch.full_like(target, -1, dtype=logits.dtype))
                    residual = logits.div_(len(targets)).to(dtype)
                    grad_hidden[chunk] = residual @ w
                    grad_weight += residual.T @ h[chunk]
        if with_gradient:
            ctx.save_for_backward(grad_hidden, grad_weight)
        ctx.mark_non_differentiable(nll)
        return nll.mean(), nll

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None, None]:
        grad_hidden, grad_weight = ctx.saved_tensors  # type: ignore[attr-defined]
        return grad_hidden * grad, grad_weight * grad, None, None
