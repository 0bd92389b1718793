"""Logistic regression, exactly and the same every time: convex problems side by side, by L-BFGS in whitened coordinates."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from scipy.optimize import minimize
from torch import Tensor

TOLERANCE = 1e-4  # largest entry of the gradient in whitened coordinates; scikit-learn's, in its own coordinates
MOST_STEPS = 1000

Objective = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Parameters -> a convex function and its gradient."""


@dataclass(frozen=True)
class Softmax:
    """A fitted multinomial probe; ``classes`` are those that occurred in training, ascending."""

    weight: Float[Tensor, "width class"]
    bias: Float[Tensor, "class"]
    classes: Int[Tensor, "class"]

    def predict(self, acts: Float[Tensor, "token width"]) -> Int[Tensor, "token"]:
        """The likeliest class of each token."""
        return self.classes[(acts @ self.weight + self.bias).argmax(1)]


def softmax_probes(acts: Float[Tensor, "token width"], labels: Int[Tensor, "token task"], l2: float) -> list[Softmax]:
    """For each task the multinomial logistic regression that minimises summed cross-entropy + l2/2 ‖weights‖².

    As scikit-learn's ``LogisticRegression(C=1 / l2)``: biases are free. Tasks are independent; they are fitted in one
    go because they read the same activations.
    """
    classes, targets = zip(*(column.unique(return_inverse=True) for column in labels.T), strict=True)
    sizes = [len(each) for each in classes]
    design, basis = whitened(acts[None], l2)
    design, basis, tokens = design[0], basis[0], len(acts)
    one_hot = torch.cat([F.one_hot(y, size) for y, size in zip(targets, sizes, strict=True)], 1).to(design)

    def objective(parameters: Tensor) -> tuple[Tensor, Tensor]:
        scores = design @ parameters
        likely = torch.cat([each.log_softmax(1) for each in scores.split(sizes, 1)], 1)
        loss = -(likely * one_hot).sum(dtype=torch.float64) / tokens
        return loss, design.T @ likely.exp_().sub_(one_hot) / tokens

    found = basis @ _minimum(_penalised(objective, basis, l2 / tokens), (len(basis), sum(sizes)), basis)
    each = (part.split([len(found) - 1, 1]) for part in found.split(sizes, 1))
    return [Softmax(weight, bias[0], seen) for (weight, bias), seen in zip(each, classes, strict=True)]


def binary_probes(
    acts: Float[Tensor, "problem token width"], labels: Bool[Tensor, "problem token"], l2: float
) -> tuple[Float[Tensor, "problem width"], Float[Tensor, "problem"]]:
    """Weights and bias of a binary logistic regression for each problem, with activations of its own; as above."""
    design, basis = whitened(acts, l2)
    tokens = acts.shape[1]
    signs = torch.where(labels, -1.0, 1.0)[..., None]

    def objective(parameters: Tensor) -> tuple[Tensor, Tensor]:
        margins = signs * (design @ parameters)
        loss = F.softplus(margins).sum(dtype=torch.float64) / tokens
        return loss, design.mT @ (signs * margins.sigmoid()) / tokens

    found = (basis @ _minimum(_penalised(objective, basis, l2 / tokens), (*basis.shape[:2], 1), basis))[..., 0]
    return found[:, :-1], found[:, -1]


def whitened(
    acts: Float[Tensor, "problem token width"], l2: float
) -> tuple[Float[Tensor, "problem token width+1"], Float[Tensor, "problem width+1 width+1"]]:
    """Activations, with a 1 behind them for the bias, in a basis in which the problem is well-conditioned; the basis.

    The Hessian of a logistic loss lies below half the second moments (Böhning 1992, Ann. Inst. Stat. Math. 44); in
    this basis half the second moments and the penalty are the identity, which spares L-BFGS most of its steps.
    """
    design = F.pad(acts, (0, 1), value=1.0)
    moments = (design.mT @ design).double() / acts.shape[1]
    ridge = torch.full_like(moments[0, 0], l2 / acts.shape[1])
    factor = torch.linalg.cholesky(moments / 2 + ridge.diag())
    basis = torch.linalg.inv(factor).mT.to(acts)
    return design @ basis, basis


def _penalised(objective: Objective, basis: Tensor, strength: float) -> Objective:
    def penalised(parameters: Tensor) -> tuple[Tensor, Tensor]:
        loss, gradient = objective(parameters)
        weights = basis @ parameters
        weights[..., -1, :] = 0  # the bias is free
        return loss + strength / 2 * weights.square().sum(dtype=torch.float64), gradient + strength * basis.mT @ weights

    return penalised


def _minimum(objective: Objective, shape: Sequence[int], like: Tensor) -> Tensor:
    def evaluated(flat: np.ndarray) -> tuple[float, np.ndarray]:
        loss, gradient = objective(torch.from_numpy(flat).to(like).view(*shape))
        return float(loss), gradient.double().flatten().cpu().numpy()

    found = minimize(
        evaluated,
        np.zeros(int(np.prod(shape))),
        jac=True,
        method="L-BFGS-B",
        options={"maxcor": 20, "gtol": TOLERANCE, "ftol": 1e-12, "maxiter": MOST_STEPS, "maxfun": 2 * MOST_STEPS},
    )
    return torch.from_numpy(found.x).to(like).view(*shape)
