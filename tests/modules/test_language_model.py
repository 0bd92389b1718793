from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch import Tensor, nn

from tti.configuration import conf_dir
from tti.models.stories import Separate
from tti.modules.assembly import parts
from tti.modules.journal import TrainingDivergedError
from tti.modules.language_model import LanguageModel
from tti.regularizers.base import Regularizer
from tti.step import Batch, Step
from tti.weightings.fixed import Fixed

VOCAB, STEPS = 11, 20
NAN = float("nan")


class Learning(Regularizer):
    """Has parameters."""

    def __init__(self) -> None:
        super().__init__("blocks.0.mlp_out", weight=1.0, warmup=0.0)
        self.map = nn.Linear(16, 1)

    def forward(self, step: Step) -> Tensor:
        return self.map(step.activations["blocks.0.mlp_out"]).square().mean()


def module_with(*overrides: str, **regularizers: Regularizer) -> LanguageModel:
    """A tiny model of two layers as the configuration makes it, at step 0 of 20."""
    small = ["model=tiny", f"model.vocab_size={VOCAB}", "model.d_model=16", "model.context=8", "task.compile=false"]
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        config = compose("train", [*small, "variant=test", *overrides])
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
    module.trainer.global_step = STEPS // 20  # half of orthogonality's warm-up

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
