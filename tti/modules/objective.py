"""The training objective: the task's loss plus ``coefficient * penalty`` for every regularizer."""

from collections.abc import Callable, Mapping
from copy import deepcopy

import torch
from torch import Tensor, nn

from tti.configuration import digest
from tti.models.network import Network
from tti.modules.protocols import Drawing
from tti.regularizers.base import Regularizer
from tti.step import Step
from tti.weightings.base import Weighting

Coefficients = Mapping[str, float | Tensor]


class Objective:
    """The terms of the objective and their coefficients, independent of any trainer.

    Args:
        net: the network.
        terms: regularizers by the name under which they are logged.
        weightings: for each regularizer, by name, the weighting that sets its coefficient.
        loss: name under which the task's own loss is logged.
        seed: seed for modules that draw random numbers (``tti.modules.protocols.Drawing``).

    Raises:
        ValueError: a regularizer asks for a site that ``net`` lacks.
    """

    def __init__(
        self,
        net: Network,
        terms: Mapping[str, Regularizer],
        weightings: Mapping[str, Weighting],
        loss: str,
        seed: int,
    ) -> None:
        self.net, self.terms, self.weightings, self.loss, self.seed = net, dict(terms), dict(weightings), loss, seed
        for term in self.terms.values():
            term.attach(net.sites)
        self.sites = {site for term in self.terms.values() for site in term.sites}
        parts = nn.ModuleDict({"net": net, "regularizers": nn.ModuleDict(self.terms)})
        self._drawing = [(name, part) for name, part in parts.named_modules() if isinstance(part, Drawing)]

    def draw(self, step: int) -> None:
        """Have every module that needs random numbers draw those of an optimizer step."""
        for name, part in self._drawing:
            part.draw(torch.Generator().manual_seed(int(digest(f"{self.seed}/{name}/{step}"), 16)))

    def coefficients(self, progress: float) -> dict[str, float | Tensor]:
        """Each regularizer's coefficient after a fraction ``progress`` (0 to 1) of the optimizer steps."""
        return {name: weighting.coefficient(progress) for name, weighting in self.weightings.items()}

    def total(self, loss: Tensor, step: Step, coefficients: Coefficients) -> tuple[Tensor, dict[str, Tensor]]:
        """The scalar to differentiate, and every part of it that is logged, by name."""
        total, values = loss, {self.loss: loss}
        for name, term in self.terms.items():
            penalty, weighted = term.weighted(step, coefficients[name])
            total = total + weighted
            values |= {name: penalty, f"{name}_weighted": weighted}
            values |= {f"{name}/{note}": value for note, value in step.notes.items()}
            step.notes.clear()
        return total, {"loss": total} | values

    def gradient_ratios(
        self, run: Callable[[], tuple[Tensor, Step]], progress: float, mean: Callable[[Tensor], Tensor]
    ) -> dict[str, Tensor]:
        """``|grad(coefficient * penalty)| / |grad(loss)|`` over the network, before clipping.

        Measured with the coefficients of the current step; the weightings observe the ratios afterwards. ``run`` makes
        a separate forward pass for each term, with the random state of the step that follows. Regularizers are
        deep-copied, so that their state does not advance: training continues as if nothing had been measured.

        Args:
            run: one forward pass, which returns the task's loss, and the step with the activations of ``sites``.
            progress: fraction of the optimizer steps done.
            mean: averages a scalar over all processes. Gradients cover this process's micro-batch only.

        Raises:
            ValueError: a regularizer's sites pass no gradient, so that it would be a constant of the objective.
        """
        together = f"reg_to_{self.loss}_grad_ratio"
        if not self.terms:
            return {together: torch.zeros((), device=self.net.device)}
        reference = _norm(self._gradient(run, lambda loss, step: loss))
        ratios: dict[str, Tensor] = {}
        summed: list[Tensor] = []
        for (name, copy), coefficient in zip(
            deepcopy(self.terms).items(), self.coefficients(progress).values(), strict=True
        ):
            gradient = self._gradient(run, lambda _, step, name=name, copy=copy: _learned(name, copy, step))  # type: ignore[misc]
            ratio = mean(_norm(gradient) / reference)
            ratios[f"{name}_to_{self.loss}_grad_ratio"] = coefficient * ratio
            self.weightings[name].observe_gradients(ratio)
            torch._foreach_mul_(gradient, coefficient)
            summed = list(torch._foreach_add(summed, gradient)) if summed else gradient
        return ratios | {together: _norm(summed) / reference}

    def _gradient(self, run: Callable[[], tuple[Tensor, Step]], term: Callable[[Tensor, Step], Tensor]) -> list[Tensor]:
        device = self.net.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            value = term(*run())
        return list(torch.autograd.grad(value, list(self.net.parameters()), allow_unused=True, materialize_grads=True))


def _norm(gradient: list[Tensor]) -> Tensor:
    return torch.stack(torch._foreach_norm(gradient)).norm()


def _learned(name: str, term: Regularizer, step: Step) -> Tensor:
    penalty = term(step)
    if not penalty.requires_grad:
        raise ValueError(
            f"regularizer {name} would train nothing: no gradient passes through {', '.join(term.sites)}, as with "
            f"the choices of a codebook. Choose other sites (regularizer.{name}.sites=...)"
        )
    return penalty
