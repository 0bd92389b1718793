"""The contract of a task, and everything about training that does not depend on the task."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any, Protocol, cast

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from tti.constraints.base import Constraint
from tti.metrics.sites import AtSites
from tti.models.network import Network
from tti.modules.journal import Journal, numbers
from tti.modules.objective import Objective
from tti.modules.protocols import Tuned
from tti.regularizers.base import Regularizer
from tti.step import Batch, Step
from tti.weightings.base import Weighting


class Measured(Protocol):
    """A metric of a validation."""

    def update(self, step: Step) -> None:
        """Add one step."""

    def compute(self) -> dict[str, Tensor]:
        """Named scalars."""

    def reset(self) -> None:
        """Reset to the initial state."""


class Task(LightningModule, ABC):
    """Trains ``net`` on its own loss plus ``coefficient * penalty`` for every regularizer, under constraints.

    A task defines its forward pass and loss (:meth:`run`) and the metrics of validation (:meth:`losses`, one of which
    gives ``loss``). The training command reads its ``net``, ``journal`` and ``validated_step``, and sets its
    ``identity``.

    :meth:`take` is one optimizer step; Lightning's hooks go through the same methods. A task with a second optimizer
    overrides :meth:`end_step`, and keeps that optimizer's state in a module's extra state.

    Args:
        net: the network.
        regularizers: regularizers by the name under which they are logged.
        weightings: for each regularizer, by name, the weighting that sets its coefficient.
        metrics: interpretability metrics of every validation by name, whatever is trained on.
        constraints: projections of weights after each optimizer step by name, applied in this order.
        optimizer: makes the optimizer from parameter groups.
        schedule: makes the learning-rate schedule from the optimizer and the number of steps.
        seed: seed for modules that draw random numbers (``tti.modules.protocols.Drawing``).
        grad_ratio_every: optimizer steps between measurements of gradient ratios; each costs about one step for the
            loss and one per regularizer.
        compile: whether to compile the network with ``torch.compile``.

    Raises:
        ValueError: a regularizer, metric or constraint asks for a site or parameter that ``net`` lacks.
    """

    loss_name = "loss"
    """Name under which :meth:`run`'s loss, without regularizers, is logged in training."""

    def __init__(
        self,
        net: Network,
        regularizers: Mapping[str, Regularizer],
        weightings: Mapping[str, Weighting],
        metrics: Mapping[str, AtSites],
        constraints: Mapping[str, Constraint],
        optimizer: Callable[[Iterable[dict[str, Any]]], Optimizer],
        schedule: Callable[..., LRScheduler],
        seed: int,
        grad_ratio_every: int,
        compile: bool,
    ) -> None:
        super().__init__()
        self.net = net
        self.regularizers = nn.ModuleDict(regularizers)
        self.weightings = nn.ModuleDict(weightings)
        self.metrics = nn.ModuleDict(metrics)
        self.constraints = nn.ModuleDict(constraints)
        self.objective = Objective(net, regularizers, weightings, self.loss_name, seed)
        self.journal = Journal(self.loss_name, regularizers)
        self.means = self.journal.means  # registered as a module, so that its state is checkpointed
        self.identity = ""  # the run's identity, stored in checkpoints; set by the training command
        self.validated_step = -1
        self._optimizer, self._schedule = optimizer, schedule
        self._grad_ratio_every, self._compile = grad_ratio_every, compile
        self._random_states: dict[str, Tensor] = {}
        self._measured_step = -1
        self._measured_sites: set[str] = set()
        for metric in metrics.values():
            metric.choose(net.sites)  # an unknown site is an error now, not after the corpus has been tokenized
        for constraint in constraints.values():
            constraint.attach(net)

    def __setattr__(self, name: str, value: Any) -> None:
        # Lightning sets the current hook's name dozens of times per step, and torch checks each time whether the value
        # is a parameter or a module, which is a third of Lightning's overhead.
        if name == "_current_fx_name":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    # -- what a task defines -------------------------------------------------------------------------------------------

    @abstractmethod
    def run(self, batch: Batch, sites: Iterable[str]) -> tuple[Tensor, Step]:
        """One forward pass: the mean loss over the batch's rows, and the step with the activations of ``sites``."""

    @abstractmethod
    def losses(self) -> Iterable[Measured]:
        """Metrics of the task itself in validation; one of them gives ``loss``, which runs are compared by."""

    def parts(self, step: Step) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Further scalars of a training step to log, and the number of rows over which each is a mean."""
        return {}, {}

    def derived(self, values: Mapping[str, float]) -> dict[str, float]:
        """Further values of a log line, computed from those in it."""
        return {}

    # -- the step ---------------------------------------------------------------------------------------------------

    def take(
        self,
        batches: Iterable[Batch],
        optimizer: Optimizer,
        schedule: LRScheduler,
        clip: float | None,
        around_forward: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        """One optimizer step over accumulated micro-batches, without Lightning.

        Args:
            batches: the micro-batches.
            optimizer: the optimizer from :meth:`configure_optimizers`.
            schedule: its schedule.
            clip: norm above which gradients are clipped; None for no limit.
            around_forward: context of each forward pass, such as autocast.
        """
        for number, batch in enumerate(batches):
            self.on_train_batch_start(batch, number)
            with around_forward():
                loss = self.training_step(batch, number)
            self.backward(loss)
        self.on_before_optimizer_step(optimizer)
        self.clip(clip)
        optimizer.step()
        self.end_step(optimizer)
        schedule.step()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        if self._random_states:  # now only the step itself draws from them
            _set_random_states(self._random_states)
            self._random_states = {}
        self.objective.draw(self.trainer.global_step)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        step_number = self.trainer.global_step
        if step_number % self._grad_ratio_every == 0 and step_number != self._measured_step:  # once per step
            self._measured_step = step_number
            self.journal.ratios = self.measure_gradient_ratios(batch)
        loss, step = self.run(batch, self.objective.sites)
        self.journal.coefficients = self.objective.coefficients(self.progress)
        total, values = self.objective.total(loss, step, self.journal.coefficients)
        parts, counts = self.parts(step)
        self.means.update(values | parts, len(batch), counts)
        return total * batch.share

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        self.journal.learning_rate = optimizer.param_groups[0]["lr"]  # the schedule advances before logging

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        self.clip(gradient_clip_val)

    def clip(self, limit: float | None) -> None:
        """Clip the norm of the network's gradient, and separately those of tuned modules and of each regularizer."""
        network, *apart = self._clipped
        self.journal.grad_norm = clip_grad_norm_(network, limit or float("inf"))
        for parameters in apart:
            clip_grad_norm_(parameters, limit or float("inf"))

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        self.end_step(optimizer)

    def end_step(self, optimizer: Optimizer | LightningOptimizer) -> None:
        """After the optimizer: free the gradients, which Lightning would keep, and project the weights."""
        optimizer.zero_grad()
        progress = (self.trainer.global_step + 1) / self.trainer.max_steps  # the trainer counts the step only later
        for constraint in cast(Iterable[Constraint], self.constraints.values()):
            constraint.project(progress)

    @property
    def progress(self) -> float:
        """Fraction of the optimizer steps done."""
        return self.trainer.global_step / self.trainer.max_steps

    def measure_gradient_ratios(self, batch: Batch) -> dict[str, Tensor]:
        """The strength of each regularizer's gradient relative to the loss's (:meth:`Objective.gradient_ratios`)."""
        return self.objective.gradient_ratios(
            lambda: self.run(batch, self.objective.sites), self.progress, self._over_processes
        )

    def _over_processes(self, value: Tensor) -> Tensor:
        return cast(Tensor, self.all_gather(value)).mean() if self.trainer.world_size > 1 else value

    # -- optimization -----------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> Any:
        """Weight decay applies to the network's matrices only; regularizers and tuned modules form their own groups."""
        network = self._plain(self.net)
        groups: list[dict[str, Any]] = [
            {"params": [p for p in network if p.ndim >= 2]},
            {"params": [p for p in network if p.ndim < 2], "weight_decay": 0.0},
            {"params": self._plain(self.regularizers), "weight_decay": 0.0},
            *({"params": list(part.parameters()), **cast(Tuned, part).optimizer_settings} for part in self._tuned),
        ]
        optimizer = self._optimizer([group for group in groups if group["params"]])
        schedule = self._schedule(optimizer, max_steps=self.trainer.max_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    @cached_property
    def _tuned(self) -> list[nn.Module]:
        return [part for part in self.modules() if isinstance(part, Tuned)]

    @cached_property
    def _clipped(self) -> list[list[nn.Parameter]]:
        """Groups of parameters whose gradients are clipped separately, the network's first."""
        plain = [self._plain(part) for part in (self.net, *self.regularizers.values())]
        return plain + [list(part.parameters()) for part in self._tuned]

    def _plain(self, module: nn.Module) -> list[nn.Parameter]:
        """The parameters of a module without those of tuned modules."""
        apart = {id(parameter) for part in self._tuned for parameter in part.parameters()}
        return [parameter for parameter in module.parameters() if id(parameter) not in apart]

    def setup(self, stage: str) -> None:
        split = "test" if stage == "test" else "validation"
        n_types = self.trainer.datamodule.n_types(split)  # type: ignore[attr-defined]
        interpretability = cast(Iterable[AtSites], self.metrics.values())
        for metric in interpretability:
            metric.attach(self.net.sites, n_types)
        self._measured_sites = {site for metric in interpretability for site in metric.sites}
        if self._compile and stage == "fit":
            self.net.compile(dynamic=True)

    # -- validation and test ----------------------------------------------------------------------------------------

    @property
    def measured(self) -> list[Measured]:
        """All metrics of a validation."""
        return [*self.losses(), *cast(Iterable[Measured], self.metrics.values())]

    def on_validation_start(self) -> None:
        self.journal.clock.stop()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        _, step = self.run(batch, self._measured_sites)
        for metric in self.measured:
            metric.update(step)

    def on_validation_epoch_end(self) -> None:
        self._report_measured("val")
        self.validated_step = self.trainer.global_step
        for weighting in self.objective.weightings.values():
            weighting.observe_validation(self.validated_step, self.trainer.max_steps, self.journal.latest["val/loss"])

    def on_validation_end(self) -> None:
        self.journal.clock.start()

    test_step = validation_step

    def on_test_epoch_end(self) -> None:
        self._report_measured("test")

    def _report_measured(self, split: str) -> None:
        values: dict[str, Tensor] = {}
        for metric in self.measured:
            values |= metric.compute()
            metric.reset()
        self._report({f"{split}/{name}": number for name, number in numbers(values, self.device).items()})

    # -- logging ----------------------------------------------------------------------------------------------------

    def on_train_start(self) -> None:
        self.journal.clock.start()

    def on_train_end(self) -> None:
        self.journal.clock.stop()

    def configure_callbacks(self) -> list[Callback]:
        return [_TrainingLog()]

    def log_training_if_due(self) -> None:
        """Log the first step, every ``trainer.log_every_n_steps``, and the last."""
        step = self.trainer.global_step
        if self.journal.is_due(step, self.trainer.log_every_n_steps, self.trainer.max_steps):  # type: ignore[attr-defined]
            values = self.journal.line(step)
            self._report({f"train/{name}": value for name, value in (values | self.derived(values)).items()})

    def _report(self, values: dict[str, float]) -> None:
        self.journal.latest |= values
        # For callbacks, because Lightning's own log() costs a millisecond per metric. Loggers need the optimizer step.
        self.trainer.callback_metrics.update({name: torch.tensor(value) for name, value in values.items()})
        for logger in self.loggers:
            logger.log_metrics(values, step=self.trainer.global_step)

    # -- checkpoints ------------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.journal.require_finite(self.trainer.global_step)
        own = {"identity": self.identity, "random_states": _random_states()}
        checkpoint["training"] = own | self.journal.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        saved = checkpoint["training"]
        if saved["identity"] != self.identity:
            raise ValueError(
                "the checkpoint belongs to another configuration than its run folder. Put the run's own checkpoint "
                "back, or delete this one to start at step 0"
            )
        self._random_states = saved["random_states"]
        self.journal.load(saved, checkpoint["global_step"])


class _TrainingLog(Callback):
    """Logs training from a callback, which runs before checkpoints are written.

    The module's own hook runs after them: a step in a checkpoint but not yet in the log would be missing from the log
    of a resumed run.
    """

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *args: Any) -> None:
        cast(Task, module).log_training_if_due()


def _random_states() -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _set_random_states(states: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"].cpu())
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"].cpu())
