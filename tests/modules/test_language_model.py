from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn

from tti.configuration import conf_dir
from tti.models.identity import weights_digest
from tti.models.stories import Separate
from tti.modules.assembly import assembled, parts
from tti.modules.journal import TrainingDivergedError
from tti.modules.language_model import LanguageModel
from tti.regularizers.base import Regularizer
from tti.step import Batch, Step
from tti.weightings.fixed import Fixed
from tti.weightings.ratio import GradientRatio

VOCAB, STEPS = 11, 20
NAN = float("nan")
SMALL = ["model=tiny", f"model.vocab_size={VOCAB}", "model.d_model=16", "model.context=8", "task.compile=false"]


class Learning(Regularizer):
    """A regularizer with parameters."""

    def __init__(self) -> None:
        super().__init__("blocks.0.mlp_out", weight=1.0, warmup=0.0)
        self.map = nn.Linear(16, 1)

    def forward(self, step: Step) -> Tensor:
        return self.map(step.activations["blocks.0.mlp_out"]).square().mean()


def module_with(*overrides: str, **regularizers: Regularizer) -> LanguageModel:
    """A tiny model of two layers as the configuration makes it, at step 0 of 20."""
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        config = compose("train", [*SMALL, "variant=test", *overrides])
    torch.manual_seed(0)
    made = parts(config)
    made["regularizers"] |= regularizers
    made["weightings"] |= {name: Fixed(weight=each.weight, warmup=each.warmup) for name, each in regularizers.items()}
    module: LanguageModel = instantiate(config.task)(**made)
    module._trainer = SimpleNamespace(max_steps=STEPS, global_step=0, world_size=1)  # type: ignore[assignment]
    return module


@pytest.fixture
def batch() -> Batch:
    tokens = torch.from_numpy(np.random.default_rng(0).integers(0, VOCAB, 16))
    present, types = np.unique(tokens[:14], return_inverse=True)
    return Batch(tokens[:14], tokens[1:15], Separate.of([6, 8]), torch.from_numpy(types), len(present), 14)


def test_weight_decay_is_on_the_networks_matrices_only():
    module = module_with(learning=Learning())
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    optimizer = module.configure_optimizers()["optimizer"]
    decayed = [names[id(p)] for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]]
    spared = [names[id(p)] for group in optimizer.param_groups if not group["weight_decay"] for p in group["params"]]
    assert set(decayed) == {name for name, p in module.named_parameters() if name.startswith("net.") and p.ndim == 2}
    assert {"regularizers.learning.map.weight", "net.ln_final.bias"} <= set(spared)
    assert len(decayed) + len(spared) == len(list(module.parameters()))


def test_regularizers_parameters_are_clipped_apart_from_the_models():
    module = module_with(learning=Learning())
    for parameter in module.net.parameters():
        parameter.grad = torch.full_like(parameter, 1e-6)
    for parameter in module.regularizers.parameters():
        parameter.grad = torch.full_like(parameter, 100.0)
    module.configure_gradient_clipping(None, 1.0)  # type: ignore[arg-type]
    assert all(torch.equal(p.grad, torch.full_like(p, 1e-6)) for p in module.net.parameters() if p.grad is not None)
    assert _norm([p.grad for p in module.regularizers.parameters()]) == pytest.approx(1.0, rel=1e-4)


def test_a_step_lets_go_of_its_gradients(batch):
    module = module_with()
    optimizer = module.configure_optimizers()["optimizer"]
    before = module.net.pos_embed.weight.detach().clone()
    module.optimizer_step(0, 0, optimizer, lambda: module.run(batch, ())[0].backward())
    assert not torch.equal(module.net.pos_embed.weight, before)
    assert all(parameter.grad is None for parameter in module.parameters())


def _norm(gradients: list[Any]) -> float:
    return float(torch.cat([gradient.flatten() for gradient in gradients]).norm())


def test_grad_ratio_is_what_autograd_says(batch):
    module = module_with("regularizer=[l1,orthogonality]", "regularizer.l1.warmup=0", "regularizer.l1.weight=3")
    module.trainer.global_step = STEPS // 20  # halfway through orthogonality's warm-up

    def gradient(coefficients: dict[str, float], of_cross_entropy: float) -> list[Tensor]:
        torch.manual_seed(1)
        cross_entropy, step = module.run(batch, module.objective.sites)
        value = of_cross_entropy * cross_entropy
        for name, coefficient in coefficients.items():
            value = value + coefficient * module.objective.terms[name](step)
        module.zero_grad()
        value.backward()
        return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in module.net.parameters()]

    cross_entropy = _norm(gradient({}, 1.0))
    coefficients = {"l1": 3.0, "orthogonality": 0.5e-2}
    torch.manual_seed(1)
    ratios = module.measure_gradient_ratios(batch)
    assert float(ratios["reg_to_ce_grad_ratio"]) == pytest.approx(
        _norm(gradient(coefficients, 0.0)) / cross_entropy, rel=1e-4
    )
    for name, coefficient in coefficients.items():
        expected = _norm(gradient({name: coefficient}, 0.0)) / cross_entropy
        assert float(ratios[f"{name}_to_ce_grad_ratio"]) == pytest.approx(expected, rel=1e-4)


def test_measuring_the_grad_ratio_draws_nothing_and_leaves_no_gradient(batch):
    module = module_with("regularizer=l1")
    before = torch.get_rng_state()
    module.measure_gradient_ratios(batch)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.grad is None for parameter in module.parameters())


def test_without_regularizers_the_grad_ratio_is_zero(batch):
    assert {name: float(value) for name, value in module_with().measure_gradient_ratios(batch).items()} == {
        "reg_to_ce_grad_ratio": 0.0
    }


@pytest.mark.parametrize(
    ("updates", "named"),
    [
        ([{"loss": 1.0, "ce": 1.0, "l1": 1.0}, {"loss": NAN, "ce": 1.0, "l1": NAN, "l1_weighted": NAN}], "l1"),
        ([{"loss": NAN, "ce": 1.0, "l1": NAN}, {"loss": NAN, "ce": NAN, "l1": NAN}], "l1"),  # then all are broken
        ([{"loss": NAN, "ce": NAN, "l1": 1.0}], "ce"),
        ([{"loss": NAN, "ce": 1.0, "l1": 1.0}], "loss"),  # a sum that overflows
        ([{"loss": 1.0, "ce": 1.0, "l1": 1.0}], "the gradient"),
    ],
)
def test_the_term_that_broke_first_is_named(updates, named):
    module = module_with("regularizer=l1")
    names = {"l1_weighted": 1.0} | updates[0]
    for update in updates:
        module.means.update({name: torch.tensor(value) for name, value in (names | update).items()}, tokens=3)
    error = module.journal.diverged(0, 7)
    assert isinstance(error, TrainingDivergedError)
    assert f"between steps 0 and 7, first in: {named}." in str(error)


@pytest.mark.parametrize("site", ["regularizer.l1.sites=nope", "metrics.sparsity.sites=[nope]"])
def test_a_site_that_is_not_there_is_an_error_at_once(site):
    with pytest.raises(Exception, match="no site of this model matches 'nope'"):
        module_with("regularizer=l1", site)


def test_only_rows_in_the_loss_are_seen_by_anyone(batch):
    module = module_with("regularizer=[l1,orthogonality]", "metrics.sparsity.sites=[blocks.0.mlp.post]")
    module.eval()
    rows = torch.tensor([1, 4, 5, 13])
    asked: list[int] = []
    head = module.net.loss
    module.net.loss = lambda hidden, targets: (asked.append(len(hidden)), head(hidden, targets))[1]  # type: ignore
    scored = replace(batch, targets=batch.targets[rows], types=batch.types[rows], scored=rows)
    loss, step = module.run(scored, module.objective.sites)
    _, whole = module.run(batch, module.objective.sites)
    assert asked == [4, 14]
    assert len(scored) == 4
    assert torch.equal(step.nll, whole.nll[rows])
    assert loss.item() == pytest.approx(whole.nll[rows].mean().item())
    assert scored.document.tolist() == [0, 0, 0, 1]
    for site, acts in step.activations.items():
        assert torch.equal(acts, whole.activations[site][rows])


def test_a_site_without_a_row_a_token_stays_whole(batch):
    module = module_with("model/mlp=hard_concrete", "regularizer=l0")
    rows = torch.tensor([2, 3])
    scored = replace(batch, targets=batch.targets[rows], types=batch.types[rows], scored=rows)
    _, step = module.run(scored, module.objective.sites)
    assert all(len(acts) == 1 for acts in step.activations.values())


def test_a_regularizer_may_have_a_weighting_of_its_own():
    ratio = "+weighting@regularizer.l1.weighting=ratio"
    module = module_with("regularizer=[l1,orthogonality]", ratio, "regularizer.l1.weighting.target=0.3")
    kinds = {name: type(each) for name, each in module.weightings.items()}
    assert kinds == {"l1": GradientRatio, "orthogonality": Fixed}
    assert module.weightings["l1"].target == 0.3
    assert module.weightings["l1"].weight == 1e-3


def test_the_first_weights_do_not_depend_on_the_order_of_the_keys():
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        config = compose("train", ["model=tiny", "model.vocab_size=11", "variant=test", "regularizer=online_sae"])
    turned = OmegaConf.create(dict(reversed(OmegaConf.to_container(config, resolve=True).items())))
    digests = set()
    for each in (config, turned):
        torch.manual_seed(0)
        digests.add(weights_digest(assembled(each).net))
    torch.manual_seed(0)
    assert digests == {weights_digest(instantiate(config.model))}


class Discriminator(nn.Module):
    """A module with its own optimizer, whose state is part of the checkpoint."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.map = nn.Linear(width, 1)
        self.optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)

    def get_extra_state(self) -> dict[str, Any]:
        return self.optimizer.state_dict()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state)


class Adversarial(LanguageModel):
    """A task with a second optimizer: a discriminator of the two halves of a batch, which the network tries to fool."""

    def __init__(self, **parts: Any) -> None:
        super().__init__(**parts)
        self.discriminator = Discriminator(16)

    def run(self, batch: Batch, sites: Any) -> tuple[Tensor, Step]:
        loss, step = super().run(batch, {*sites, "blocks.0.mlp_out"})
        self.seen = step.activations["blocks.0.mlp_out"]
        return loss - 0.1 * self._told_apart(self.seen), step

    def _told_apart(self, acts: Tensor) -> Tensor:
        halves = torch.arange(len(acts)) < len(acts) / 2
        return nn.functional.binary_cross_entropy_with_logits(self.discriminator.map(acts)[:, 0], halves.float())

    def end_step(self, optimizer: Any) -> None:
        super().end_step(optimizer)
        self.discriminator.optimizer.zero_grad()
        self._told_apart(self.seen.detach()).backward()
        self.discriminator.optimizer.step()


def adversarial() -> tuple[Adversarial, Any]:
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        config = compose("train", [*SMALL, "variant=test"])
    torch.manual_seed(0)
    module = Adversarial(**parts(config), grad_ratio_every=100, compile=False)
    module._trainer = SimpleNamespace(max_steps=STEPS, global_step=0, world_size=1)  # type: ignore[assignment]
    return module, module.configure_optimizers()


def take(module: LanguageModel, configured: Any, batch: Batch) -> None:
    module.take([batch], configured["optimizer"], configured["lr_scheduler"]["scheduler"], 1.0)
    module.trainer.global_step += 1


def test_a_task_may_have_a_further_optimiser_and_resumes_with_it(batch):
    module, configured = adversarial()
    for _ in range(2):
        take(module, configured, batch)
    saved = deepcopy((module.state_dict(), configured["optimizer"].state_dict()))
    schedule = configured["lr_scheduler"]["scheduler"].state_dict()
    module.eval()
    take(module, configured, batch)

    resumed, again = adversarial()
    resumed.load_state_dict(saved[0])
    again["optimizer"].load_state_dict(saved[1])
    again["lr_scheduler"]["scheduler"].load_state_dict(schedule)
    resumed.trainer.global_step = 2
    resumed.eval()
    take(resumed, again, batch)
    own = {name for name, _ in module.named_parameters() if name.startswith("discriminator.")}
    optimised = {id(p) for group in configured["optimizer"].param_groups for p in group["params"]}
    assert own
    assert not any(id(dict(module.named_parameters())[name]) in optimised for name in own)
    assert all(torch.equal(value, resumed.get_parameter(name)) for name, value in module.named_parameters())
