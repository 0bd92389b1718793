"""Logistic regression, solved deterministically to convergence in well-conditioned, whitened coordinates."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from scipy.optimize import minimize
from torch import Tensor

TOLERANCE = 1e-4  # largest entry of the gradient in whitened coordinates; scikit-learn's is in the original ones
MOST_STEPS = 1000

Objective = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Maps parameters to the value and gradient of a convex function."""


@dataclass(frozen=True)
class SoftmaxProbe:
    """A fitted multinomial probe; ``classes`` are those that occur in training, ascending."""

    weight: Float[Tensor, "class width"]
    bias: Float[Tensor, "class"]
    classes: Int[Tensor, "class"]

    def predict(self, acts: Float[Tensor, "token width"]) -> Int[Tensor, "token"]:
        """The most probable class of each token."""
        return self.classes[(acts @ self.weight.T + self.bias).argmax(1)]


def softmax_probes(
    acts: Float[Tensor, "token width"], labels: Int[Tensor, "token task"], l2: float
) -> list[SoftmaxProbe]:
    """For each task, the multinomial logistic regression that minimizes summed cross-entropy + l2/2 ‖weights‖².

    Equivalent to scikit-learn's ``LogisticRegression(C=1 / l2)``: biases are not penalized. Tasks are independent; they
    are fitted together because they read the same activations.
    """
    classes, targets = zip(*(column.unique(return_inverse=True) for column in labels.T), strict=True)
    sizes = [len(each) for each in classes]
    tokens = len(acts)
    (design,), (basis,) = whitened(acts[None], l2)
    of_classes = torch.cat([F.one_hot(y, size).T.to(design) @ design for y, size in zip(targets, sizes, strict=True)])

    def objective(parameters: Float[Tensor, "class width+1"]) -> tuple[Tensor, Tensor]:
        scores = parameters @ design.T  # tokens last: softmax over the first dimension is ten times as fast
        total = -(parameters * of_classes).sum(dtype=torch.float64)
        for each in scores.split(sizes):
            top = each.amax(0)
            mass = each.sub_(top).exp_().sum(0)
            each.div_(mass)
            total += (top + mass.log()).sum(dtype=torch.float64)
        return total / tokens, (scores @ design - of_classes) / tokens

    found = _minimum(_penalised(objective, basis, l2 / tokens), basis.new_zeros(sum(sizes), len(basis))) @ basis.T
    return [
        SoftmaxProbe(each[:, :-1], each[:, -1], seen) for each, seen in zip(found.split(sizes), classes, strict=True)
    ]


def binary_probes(
    acts: Float[Tensor, "problem token width"], labels: Bool[Tensor, "problem token"], l2: float
) -> tuple[Float[Tensor, "problem width"], Float[Tensor, "problem"]]:
    """Weights and bias of one binary logistic regression per problem, each with its own activations."""
    problems, tokens, _ = acts.shape
    design, basis = whitened(acts, l2)
    signs = torch.where(labels, -1.0, 1.0)[:, None]

    def objective(parameters: Float[Tensor, "problem 1 width+1"]) -> tuple[Tensor, Tensor]:
        margins = signs * (parameters @ design.mT)
        loss = F.softplus(margins).sum(dtype=torch.float64) / tokens
        return loss, (signs * margins.sigmoid()) @ design / tokens

    start = basis.new_zeros(problems, 1, basis.shape[-1])
    found = (_minimum(_penalised(objective, basis, l2 / tokens), start) @ basis.mT)[:, 0]
    return found[:, :-1], found[:, -1]


def whitened(
    acts: Float[Tensor, "problem token width"], l2: float
) -> tuple[Float[Tensor, "problem token width+1"], Float[Tensor, "problem width+1 width+1"]]:
    """Activations with a constant 1 for the bias, in a basis that makes the problem well-conditioned, and that basis.

    The Hessian of a logistic loss is bounded by half the second moments (Böhning 1992, Ann. Inst. Stat. Math. 44). In
    this basis half the second moments plus the penalty is the identity, which saves L-BFGS most of its steps.
    """
    design = F.pad(acts, (0, 1), value=1.0)
    tokens = acts.shape[1]
    moments = (design.mT @ design).double() / tokens
    ridge = torch.full_like(moments[0, 0], l2 / tokens).diag()
    basis = torch.linalg.inv(torch.linalg.cholesky(moments / 2 + ridge)).mT.to(acts)
    return design @ basis, basis


def _penalised(objective: Objective, basis: Tensor, strength: float) -> Objective:
    def penalised(parameters: Tensor) -> tuple[Tensor, Tensor]:
        loss, gradient = objective(parameters)
        weights = parameters @ basis.mT
        weights[..., -1] = 0  # the bias is not penalized
        return loss + strength / 2 * weights.square().sum(dtype=torch.float64), gradient + strength * weights @ basis

    return penalised


def _minimum(objective: Objective, start: Tensor) -> Tensor:
    def evaluated(flat: np.ndarray) -> tuple[float, np.ndarray]:
        loss, gradient = objective(torch.from_numpy(flat).to(start).view_as(start))
        return float(loss), gradient.double().flatten().cpu().numpy()

    options = {"maxcor": 20, "gtol": TOLERANCE, "ftol": 0, "maxiter": MOST_STEPS, "maxfun": 2 * MOST_STEPS}
    found = minimize(evaluated, start.double().flatten().cpu().numpy(), jac=True, method="L-BFGS-B", options=options)
    return torch.from_numpy(found.x).to(start).view_as(start)
