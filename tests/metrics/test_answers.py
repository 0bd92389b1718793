"""Metrics with known answers."""

import math
from dataclasses import replace

import pytest
import torch

from tti.metrics.by_label import LossByLabel
from tti.metrics.firing import FiringRates
from tti.metrics.loss import Loss
from tti.metrics.orthogonality import MeanAbsCosine
from tti.metrics.polysemanticity import Polysemanticity
from tti.metrics.sites import AtSites
from tti.metrics.sparsity import Sparsity
from tti.metrics.step_means import StepMeans
from tti.models.network import Site
from tti.step import Step


def step_with_nll(make_step, nll, target_bytes=None):
    step = make_step(torch.zeros(len(nll), 1))
    if target_bytes is not None:
        object.__setattr__(step.batch, "target_bytes", target_bytes)
    return Step(step.batch, torch.tensor(nll), {}, step.model)


def numbers(metric):
    return {name: value.item() for name, value in metric.compute().items()}


def test_loss_weighs_tokens_not_batches(make_step):
    loss = Loss()
    loss.update(step_with_nll(make_step, [1.0, 2.0, 3.0], target_bytes=6))
    loss.update(step_with_nll(make_step, [6.0], target_bytes=2))
    assert numbers(loss) == pytest.approx(
        {"loss": 3.0, "perplexity": math.exp(3), "bits_per_byte": 12 / math.log(2) / 8, "tokens": 4}
    )


def test_one_bit_a_byte(make_step):
    loss = Loss()
    loss.update(step_with_nll(make_step, [3 * math.log(2), 0.0, 5 * math.log(2)], target_bytes=8))
    assert numbers(loss)["bits_per_byte"] == pytest.approx(1)


def test_a_guess_has_the_perplexity_of_the_vocabulary_and_a_bad_model_a_finite_one(make_step):
    loss = Loss()
    loss.update(step_with_nll(make_step, [math.log(50257)] * 5))
    assert numbers(loss)["perplexity"] == pytest.approx(50257)
    loss.reset()
    loss.update(step_with_nll(make_step, [500.0] * 5))
    assert math.isfinite(numbers(loss)["perplexity"])


def test_loss_keeps_its_digits_over_many_tokens(make_step):
    loss = Loss()
    step = step_with_nll(make_step, [1.0 + 1e-6] * 1000)
    for _ in range(300):
        loss.update(step)
    assert numbers(loss)["loss"] == pytest.approx(1.0 + 1e-6, abs=1e-7)


def test_sparsity_is_the_fraction_below_the_threshold(make_step):
    sparsity = Sparsity(width=2, n_types=9, threshold=0.01)
    acts = torch.tensor([[0.0, 0.009], [-0.02, 0.01], [-0.005, 3.0]])
    sparsity.update(acts, make_step(acts))
    assert numbers(sparsity) == {"sparsity": pytest.approx(0.5)}
    sparsity.update(torch.ones(3, 2), make_step(acts))
    assert numbers(sparsity) == {"sparsity": pytest.approx(0.25)}


def test_sparsity_counts_beyond_float32(make_step):
    sparsity = Sparsity(width=1, n_types=1, threshold=0.01)
    sparsity.inactive += 2**40
    sparsity.pairs += 2**40
    sparsity.update(torch.ones(1, 1), make_step(torch.ones(1, 1)))
    assert sparsity.pairs.item() == 2**40 + 1


def firing_at(rates, tokens):
    """Activations of one neuron per rate, which fires on that fraction of the tokens and is otherwise 0."""
    return (torch.arange(tokens)[:, None] < torch.tensor(rates) * tokens).float()


def test_firing_rates_of_neurons_that_fire_on_a_known_fraction(make_step):
    metric = FiringRates(width=5, n_types=1, threshold=0.01)
    acts = firing_at([1.0, 0.0, 0.25, 0.75, 0.5], tokens=100)[torch.randperm(100)]
    for part in acts.split([1, 60, 39]):
        metric.update(part, make_step(part))
    assert numbers(metric) == pytest.approx(
        {
            "active_fraction": 0.5,
            "exactly_zero": 0.5,
            "dead": 1 / 5,
            "always_on": 1 / 5,
            "firing_rate_p05": 0.05,
            "firing_rate_p25": 0.25,
            "firing_rate_p50": 0.5,
            "firing_rate_p75": 0.75,
            "firing_rate_p95": 0.95,
        }
    )
    metric.reset()
    metric.update(torch.ones(3, 5), make_step(torch.ones(3, 5)))
    assert numbers(metric)["active_fraction"] == 1


def test_a_neuron_fires_from_the_threshold_on_with_either_sign(make_step):
    metric = FiringRates(width=4, n_types=1, threshold=0.01)
    acts = torch.tensor([[0.01, -0.02, 0.0099, -0.0]])
    metric.update(acts, make_step(acts))
    assert metric.fired.tolist() == [1, 1, 0, 0]
    assert numbers(metric)["exactly_zero"] == 0.25


def test_dead_is_below_1_percent_and_always_on_above_99(make_step):
    metric = FiringRates(width=4, n_types=1, threshold=0.01)
    acts = firing_at([0.009, 0.01, 0.99, 0.991], tokens=1000)
    metric.update(acts, make_step(acts))
    assert metric.fired.tolist() == [9, 10, 990, 991]
    assert numbers(metric)["dead"] == numbers(metric)["always_on"] == 0.25


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_fires_is_what_is_not_sparse(make_step, dtype):
    acts = (torch.randn(50, 8, generator=torch.Generator().manual_seed(0)) / 50).to(dtype)
    acts[0] = 0.01
    firing, sparsity = (kind(width=8, n_types=1, threshold=0.01) for kind in (FiringRates, Sparsity))
    for metric in (firing, sparsity):
        metric.update(acts, make_step(acts))
    assert numbers(firing)["active_fraction"] == pytest.approx(1 - numbers(sparsity)["sparsity"])


def test_firing_counts_beyond_float32(make_step):
    metric = FiringRates(width=1, n_types=1, threshold=0.01)
    metric.fired += 2**40
    metric.tokens += 2**40
    metric.update(torch.ones(1, 1), make_step(torch.ones(1, 1)))
    assert metric.fired.item() == metric.tokens.item() == 2**40 + 1


def test_polysemanticity_sums_over_batches(make_step):
    """A neuron that responds to one type in one batch and to another in the next responds to two types."""
    metric = Polysemanticity(width=3, n_types=2)
    acts = torch.tensor([[1.0, -1.0, 0.0]])
    metric.update(acts, make_step(acts, [0], n_types=2))
    assert numbers(metric) == {"polysemanticity": 0, "silent": 1}
    metric.update(torch.tensor([[0.0, -1.0, 0.0]]), make_step(acts, [1], n_types=2))
    assert numbers(metric) == {"polysemanticity": pytest.approx(math.log(2) / 2), "silent": 1}


def test_mean_abs_cosine_of_orthogonal_and_of_equal_neurons(make_step):
    metric = MeanAbsCosine(width=3, n_types=9)
    metric.update(torch.eye(3), make_step(torch.eye(3)))
    assert numbers(metric) == {"mean_abs_cosine": 0}
    metric.reset()
    for row in torch.randn(4, 2, 1).expand(4, 2, 3):
        metric.update(row, make_step(row))
    assert numbers(metric) == {"mean_abs_cosine": pytest.approx(1, abs=1e-6)}


def test_at_sites_measures_each_site_apart(make_step):
    metric = AtSites("blocks.*.mlp_out", lambda width, n_types: Sparsity(width, n_types, threshold=0.5))
    metric.attach({f"blocks.{layer}.mlp_out": Site(2) for layer in range(11)} | {"embed": Site(2)}, n_types=5)
    step = make_step(torch.zeros(4, 2))
    step.activations.update({f"blocks.{layer}.mlp_out": torch.ones(4, 2) for layer in range(1, 11)})
    metric.update(step)
    values = {name: value.item() for name, value in metric.compute().items()}
    assert list(values) == [*(f"sparsity/mlp_out/layer_{layer}" for layer in range(11)), "sparsity/mlp_out/mean"]
    assert values["sparsity/mlp_out/layer_0"] == 1
    assert values["sparsity/mlp_out/layer_10"] == 0
    assert values["sparsity/mlp_out/mean"] == pytest.approx(1 / 11)
    metric.reset()
    assert all(m.pairs == 0 for m in metric.metrics)


def scalars(**values):
    return {name: torch.tensor(value) for name, value in values.items()}


def test_step_means_weigh_tokens():
    means = StepMeans()
    means.update(scalars(loss=1.0, ce=4.0), tokens=30)
    means.update(scalars(loss=2.0, ce=8.0), tokens=10)
    assert numbers(means) == {"loss": 1.25, "ce": 5.0, "tokens": 40}
    means.reset()
    means.update(scalars(loss=7.0, ce=1.0), tokens=3)
    assert numbers(means) == {"loss": 7.0, "ce": 1.0, "tokens": 3}


def test_step_means_keep_a_not_a_number_until_it_is_read():
    means = StepMeans()
    means.update(scalars(loss=float("nan"), ce=1.0), tokens=5)
    means.update(scalars(loss=1.0, ce=1.0), tokens=5)
    assert means.broken() == ("loss",)
    assert math.isnan(numbers(means)["loss"])
    assert numbers(means)["ce"] == 1
    means.reset()
    assert means.broken() == ()


def test_step_means_go_on_from_a_checkpoint():
    means, resumed = StepMeans(), StepMeans()
    means.update(scalars(loss=1.0, ce=4.0), tokens=30)
    resumed.load_state_dict(means.state_dict())
    for each in (means, resumed):
        each.update(scalars(loss=2.0, ce=8.0), tokens=10)
    assert numbers(resumed) == numbers(means) == {"loss": 1.25, "ce": 5.0, "tokens": 40}


def test_a_checkpoint_without_steps_in_it_resumes():
    means, resumed = StepMeans(), StepMeans()
    resumed.load_state_dict(means.state_dict())
    resumed.update(scalars(loss=2.0), tokens=10)
    assert numbers(resumed) == {"loss": 2.0, "tokens": 10}


def test_a_scalar_that_is_absent_has_no_weight():
    means = StepMeans()
    means.update(scalars(loss=1.0, copy=4.0), tokens=30)
    means.update(scalars(loss=2.0), tokens=10)
    assert numbers(means) == {"loss": 1.25, "copy": 4.0, "tokens": 40}


def test_a_scalar_is_weighed_by_its_own_count_and_left_out_without_one():
    means, nothing = StepMeans(), float("nan")
    for copy, rows in ((1.0, 2.0), (4.0, 1.0), (nothing, 0.0)):
        counts = {"copy": torch.tensor(rows), "sort": torch.tensor(0.0)}
        means.update(scalars(loss=2.0, copy=copy, sort=nothing), tokens=10, counts=counts)
    assert numbers(means) == {"loss": 2.0, "copy": 2.0, "tokens": 30}
    assert means.broken() == ()


@pytest.mark.parametrize("between", [lambda means: None, StepMeans.reset])
def test_a_new_name_is_an_error(between):
    means = StepMeans()
    means.update(scalars(loss=1.0, copy=4.0), tokens=30)
    between(means)
    with pytest.raises(ValueError, match="new scalars in a step: sort; the first step had loss, copy"):
        means.update(scalars(loss=1.0, sort=4.0), tokens=30)


def test_step_means_go_on_from_a_checkpoint_that_had_no_counts():
    means, resumed = StepMeans(), StepMeans()
    means.update(scalars(loss=1.0, ce=4.0), tokens=30)
    state = {name: value for name, value in means.state_dict().items() if name != "counts"}
    resumed.load_state_dict(state)
    resumed.update(scalars(loss=2.0, ce=8.0), tokens=10)
    assert numbers(resumed) == {"loss": 1.25, "ce": 5.0, "tokens": 40}


def test_losses_by_label_are_means_of_their_own_rows(make_step):
    metric = LossByLabel("task", ["copy", "sort", "reverse"])
    for nll, labels in (([1.0, 2.0, 6.0], [0, 0, 1]), ([3.0], [0])):
        step = make_step(torch.zeros(len(nll), 1))
        batch = replace(step.batch, labels={"task": torch.tensor(labels)})
        metric.update(replace(step, batch=batch, nll=torch.tensor(nll)))
    assert numbers(metric) == {"loss/copy": 2.0, "loss/sort": 6.0}


def test_step_means_need_no_gradient():
    means = StepMeans()
    means.update({"loss": torch.tensor(1.0, requires_grad=True)}, tokens=5)
    assert not means.sums.requires_grad
