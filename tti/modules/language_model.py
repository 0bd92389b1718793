"""The language-modelling task: cross-entropy plus any number of regularizers, and what is logged of them."""

import math
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from functools import cached_property
from typing import Any, cast

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from tti.configuration import digest
from tti.metrics.loss import Loss
from tti.metrics.sites import AtSites
from tti.metrics.step_means import StepMeans
from tti.models.network import Network
from tti.models.taps import Recorder
from tti.modules.clock import Clock
from tti.modules.protocols import Drawing, Tuned
from tti.regularizers.base import Regularizer
from tti.step import Batch, Step
from tti.weightings.base import Weighting

MAX_EXPONENT = 700.0  # exp of more is no float


class TrainingDivergedError(ArithmeticError):
    """A term of the loss, or the gradient, is not a finite number."""


class LanguageModel(LightningModule):
    """Trains ``net`` on cross-entropy plus ``coefficient * penalty`` of every regularizer.

    Args:
        net: the transformer.
        regularizers: name -> regularizer; the name is what it is logged under.
        weighting: makes what sets the coefficient of one regularizer, from its ``weight`` and ``warmup``.
        metrics: name -> interpretability metric of every validation, whatever is trained on.
        optimizer: makes the optimiser from parameter groups.
        schedule: makes the learning-rate schedule from the optimiser and the number of steps.
        grad_ratio_every: optimiser steps between measurements of ``train/reg_to_ce_grad_ratio``; one costs about a step
            for the cross-entropy and one for every regularizer.
        compile: compile the network with ``torch.compile``.
        seed: of what parts of the network and regularizers draw (``tti.modules.protocols.Drawing``).

    Raises:
        ValueError: a regularizer or metric asks for a site that ``net`` lacks.
    """

    def __init__(
        self,
        net: Network,
        regularizers: Mapping[str, Regularizer],
        weighting: Callable[..., Weighting],
        metrics: Mapping[str, AtSites],
        optimizer: Callable[[Iterable[dict[str, Any]]], Optimizer],
        schedule: Callable[..., LRScheduler],
        grad_ratio_every: int,
        compile: bool,
        seed: int,
    ) -> None:
        super().__init__()
        self.net = net
        self.regularizers = nn.ModuleDict(regularizers)
        self.weightings = nn.ModuleDict(
            {name: weighting(weight=each.weight, warmup=each.warmup) for name, each in regularizers.items()}
        )
        self.metrics = nn.ModuleDict(metrics)
        self.loss = Loss()
        self.means = StepMeans()
        self.clock = Clock()
        self.latest: dict[str, float] = {}
        self.tokens_seen = 0
        self.identity = ""  # of the run, which checkpoints carry; set by who knows it
        self.validated_step = -1
        self._optimizer, self._schedule = optimizer, schedule
        self._grad_ratio_every, self._compile, self._seed = grad_ratio_every, compile, seed
        self._random_states: dict[str, Tensor] = {}
        self._logged_step = 0
        self._measured_step = -1
        self._learning_rate = 0.0
        self._logged_second = 0.0
        self._grad_norm = torch.zeros(())
        self._grad_ratios: dict[str, Tensor] = {}
        self._coefficients: dict[str, float | Tensor] = {}
        for regularizer in self.terms.values():
            regularizer.attach(net.sites)
        self.training_sites = {site for regularizer in self.terms.values() for site in regularizer.sites}
        self._measured_sites: set[str] = set()
        for metric in cast(Iterable[AtSites], self.metrics.values()):
            metric.choose(net.sites)  # what it lacks is an error now, not once the corpus is tokenized

    def __setattr__(self, name: str, value: Any) -> None:
        # Lightning notes the hook that runs dozens of times a step; torch, which looks whether the value is a parameter
        # or a module, makes that a third of all that Lightning costs.
        if name == "_current_fx_name":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    @property
    def terms(self) -> dict[str, Regularizer]:
        """The regularizers by name (``regularizers`` as the type that its contents have)."""
        return cast(dict[str, Regularizer], dict(self.regularizers))

    def coefficients(self) -> dict[str, float | Tensor]:
        """Each regularizer's coefficient at the present step."""
        weightings = cast(dict[str, Weighting], dict(self.weightings))
        return {name: weighting.coefficient(self.progress) for name, weighting in weightings.items()}

    @property
    def measured(self) -> list[Loss | AtSites]:
        """Everything that a validation measures."""
        return [self.loss, *cast(Iterable[AtSites], self.metrics.values())]

    # -- the step ---------------------------------------------------------------------------------------------------

    def run(self, batch: Batch, sites: Iterable[str]) -> tuple[Tensor, Step]:
        """One forward pass: the mean cross-entropy in nats, and the step with the activations of ``sites``."""
        recorder = Recorder(sites)
        hidden = self.net(batch.tokens, batch.stories, recorder)
        cross_entropy, nll = self.net.loss(hidden, batch.targets)
        return cross_entropy, Step(batch, nll, recorder.activations, self.net)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        step_number = self.trainer.global_step
        if step_number % self._grad_ratio_every == 0 and step_number != self._measured_step:  # not every micro-batch
            self._measured_step = step_number
            self._grad_ratios = self._measure_grad_ratios(batch)
        cross_entropy, step = self.run(batch, self.training_sites)
        loss, values, self._coefficients = cross_entropy, {"ce": cross_entropy}, self.coefficients()
        for name, regularizer in self.terms.items():
            penalty, weighted = regularizer.weighted(step, self._coefficients[name])
            loss = loss + weighted
            values |= {name: penalty, f"{name}_weighted": weighted}
            values |= {f"{name}/{note}": value for note, value in step.notes.items()}
            step.notes.clear()
        self.means.update({"loss": loss} | values, len(batch))
        return loss * batch.share

    @property
    def progress(self) -> float:
        """The fraction of the optimiser steps that are done."""
        return self.trainer.global_step / self.trainer.max_steps

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        self._learning_rate = optimizer.param_groups[0]["lr"]  # the schedule moves on before the step is logged

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the norm of the network's gradient, and apart from it those of tuned parts and of each regularizer."""
        limit = gradient_clip_val or float("inf")
        network, *apart = self._clipped
        self._grad_norm = clip_grad_norm_(network, limit)
        for parameters in apart:
            clip_grad_norm_(parameters, limit)

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Take the step, and let go of the gradients, which Lightning would keep through the next forward pass."""
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        optimizer.zero_grad()

    def _measure_grad_ratios(self, batch: Batch) -> dict[str, Tensor]:
        """``|grad(coefficient * penalty)| / |grad(cross-entropy)|`` over the network, before clipping.

        With the coefficients that training has come with; the weightings are told what was measured only then. Forward
        passes of their own, with the dropout of the step that follows, and copies of the regularizers, whose
        generators and counters would go on otherwise: it changes nothing else. Over this process's micro-batch only.
        """
        if not self.regularizers:
            return {"reg_to_ce_grad_ratio": torch.zeros((), device=self.device)}
        reference = _norm(self._gradient(batch, lambda cross_entropy, step: cross_entropy))
        together: list[Tensor] = []
        ratios: dict[str, Tensor] = {}
        for (name, copy), coefficient in zip(deepcopy(self.terms).items(), self.coefficients().values(), strict=True):
            gradient = self._gradient(batch, lambda _, step, copy=copy: copy(step))  # type: ignore[misc]
            ratio = self._over_processes(_norm(gradient) / reference)
            ratios[f"{name}_to_ce_grad_ratio"] = coefficient * ratio
            cast(Weighting, self.weightings[name]).observe_gradients(ratio)
            torch._foreach_mul_(gradient, coefficient)
            together = list(torch._foreach_add(together, gradient)) if together else gradient
        return ratios | {"reg_to_ce_grad_ratio": _norm(together) / reference}

    def _gradient(self, batch: Batch, term: Callable[[Tensor, Step], Tensor]) -> list[Tensor]:
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            value = term(*self.run(batch, self.training_sites))
        return list(torch.autograd.grad(value, list(self.net.parameters()), allow_unused=True, materialize_grads=True))

    def _over_processes(self, value: Tensor) -> Tensor:
        return cast(Tensor, self.all_gather(value)).mean() if self.trainer.world_size > 1 else value

    # -- optimisation -----------------------------------------------------------------------------------------------

    def configure_optimizers(self) -> Any:
        """Weight decay on the network's matrices only; regularizers' parameters and tuned parts are apart."""
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
    def _drawing(self) -> list[tuple[str, Drawing]]:
        return [(name, part) for name, part in self.named_modules() if isinstance(part, Drawing)]

    @cached_property
    def _clipped(self) -> list[list[nn.Parameter]]:
        """The groups of parameters whose gradients are clipped apart from each other, the network's first."""
        plain = [self._plain(part) for part in (self.net, *self.regularizers.values())]
        return plain + [list(part.parameters()) for part in self._tuned]

    def _plain(self, module: nn.Module) -> list[nn.Parameter]:
        """The parameters of a part that are optimised with the settings of all."""
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

    def on_validation_start(self) -> None:
        self.clock.stop()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        _, step = self.run(batch, self._measured_sites)
        for metric in self.measured:
            metric.update(step)

    def on_validation_epoch_end(self) -> None:
        self._report_measured("val")
        self.validated_step = self.trainer.global_step
        for weighting in cast(Iterable[Weighting], self.weightings.values()):
            weighting.observe_validation(self.validated_step, self.trainer.max_steps, self.latest["val/loss"])

    def on_validation_end(self) -> None:
        self.clock.start()

    test_step = validation_step

    def on_test_epoch_end(self) -> None:
        self._report_measured("test")

    def _report_measured(self, split: str) -> None:
        values: dict[str, Tensor] = {}
        for metric in self.measured:
            values |= metric.compute()
            metric.reset()
        numbers = _numbers(values.values(), self.device)
        self._report({f"{split}/{name}": number for name, number in zip(values, numbers, strict=True)})

    # -- logging ----------------------------------------------------------------------------------------------------

    def on_train_start(self) -> None:
        self.clock.start()

    def on_train_end(self) -> None:
        self.clock.stop()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        if self._random_states:  # only now, when nothing but the step itself is left to draw from them
            _set_random_states(self._random_states)
            self._random_states = {}
        self._draw()

    def _draw(self) -> None:
        for name, part in self._drawing:
            seed = digest(f"{self._seed}/{name}/{self.trainer.global_step}")
            part.draw(torch.Generator().manual_seed(int(seed, 16)))

    def configure_callbacks(self) -> list[Callback]:
        return [_TrainingLog()]

    def log_training_if_due(self) -> None:
        """Log the first step, every ``trainer.log_every_n_steps``, and the last."""
        step = self.trainer.global_step
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if step != self._logged_step and (step % every == 0 or step in (1, self.trainer.max_steps)):
            self._logged_step = step
            self._log_training()

    def _log_training(self) -> None:
        measured = self.means.compute() | self._grad_ratios | {"grad_norm": self._grad_norm}
        measured |= {f"{name}_coefficient": torch.as_tensor(value) for name, value in self._coefficients.items()}
        numbers = _numbers(measured.values(), self.device)  # the one wait for the device
        values = dict(zip(measured, numbers, strict=True))
        if not all(map(math.isfinite, numbers)):
            raise self._diverged()
        tokens, seconds = int(values.pop("tokens")), self.clock.seconds
        self.tokens_seen += tokens
        values["tokens_per_second"] = tokens / max(seconds - self._logged_second, 1e-9)
        values["reg_to_ce_ratio"] = sum(values[f"{name}_weighted"] for name in self.regularizers) / values["ce"]
        values["perplexity"] = math.exp(min(values["ce"], MAX_EXPONENT))
        values["learning_rate"] = self._learning_rate
        values["tokens"] = self.tokens_seen
        self._logged_second = seconds
        self.means.reset()
        self._grad_ratios = {}
        self._report({f"train/{name}": value for name, value in values.items()})

    def _report(self, values: dict[str, float]) -> None:
        self.latest |= values
        # What callbacks read; Lightning's own log() costs a millisecond a metric. Loggers want the optimiser step.
        self.trainer.callback_metrics.update({name: torch.tensor(value) for name, value in values.items()})
        for logger in self.loggers:
            logger.log_metrics(values, step=self.trainer.global_step)

    # -- checkpoints ------------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.means.broken() or not math.isfinite(self._grad_norm):
            raise self._diverged()
        checkpoint["training"] = {
            "identity": self.identity,
            "random_states": _random_states(),
            "seconds": self.clock.seconds,
            "logged_second": self._logged_second,
            "tokens_seen": self.tokens_seen,
            "grad_ratios": dict(self._grad_ratios),
            "latest": dict(self.latest),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        saved = checkpoint["training"]
        if saved["identity"] != self.identity:
            raise ValueError(
                "the checkpoint is of another configuration than the run that it lies in. Put the run's own back, or "
                "delete it to begin at step 0"
            )
        self._random_states = saved["random_states"]
        self.clock.seconds = saved["seconds"]
        self._logged_second = saved["logged_second"]
        self.tokens_seen = saved["tokens_seen"]
        self._grad_ratios = saved["grad_ratios"]
        self.latest = saved["latest"]
        self._logged_step = checkpoint["global_step"]

    def _diverged(self) -> TrainingDivergedError:
        broken = self.means.broken()
        terms = [name for name in broken if name in {"ce", *self.terms}] or list(broken) or ["the gradient"]
        return TrainingDivergedError(
            f"not a finite number between steps {self._logged_step} and {self.trainer.global_step}, first in: "
            f"{', '.join(terms)}. The last checkpoint is from before and good. Lower optimizer.lr or the weight of the "
            "regularizer that is named, under another name=..."
        )


class _TrainingLog(Callback):
    """Logs training, as a callback: Lightning writes checkpoints before the module's own hook, and a step that is in a
    checkpoint but not in the log would be missing from the log of a resumed run."""

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *args: Any) -> None:
        cast(LanguageModel, module).log_training_if_due()


def _numbers(values: Iterable[Tensor], device: torch.device) -> list[float]:
    return cast(list[float], torch.stack([value.to(device, torch.float64) for value in values]).tolist())


def _norm(gradient: list[Tensor]) -> Tensor:
    return torch.stack(torch._foreach_norm(gradient)).norm()


def _random_states() -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _set_random_states(states: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"].cpu())
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"].cpu())
