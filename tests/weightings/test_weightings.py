"""Properties of every configured weighting, and the response of each to its measurements."""

import math

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from tti.weightings.budget import Budget
from tti.weightings.fixed import Fixed
from tti.weightings.ratio import GradientRatio

STEPS = 1000


def weighting_of(compose, option, weight=0.3, warmup=0.2):
    overrides = ["weighting.baseline.of=1.5"] if option == "budget" else []
    config = compose("model=tiny", f"weighting={option}", "variant=x", *overrides)
    made = instantiate(config.weighting)(weight=weight, warmup=warmup)
    made.attach(config)
    return made


@pytest.mark.each_option("weighting")
def test_the_coefficient_rises_from_0_over_the_warmup_and_stays(compose, option):
    weighting = weighting_of(compose, option)
    rising = [float(weighting.coefficient(progress)) for progress in (0.0, 0.05, 0.1, 0.2, 0.7, 1.0)]
    assert rising == pytest.approx([0, 0.075, 0.15, 0.3, 0.3, 0.3])


@pytest.mark.each_option("weighting")
def test_without_warmup_it_is_there_from_the_start(compose, option):
    assert float(weighting_of(compose, option, warmup=0).coefficient(0.0)) == pytest.approx(0.3)


@pytest.mark.each_option("weighting")
@pytest.mark.parametrize("warmup", [-0.1, 1.5, 1000])
def test_warmup_is_a_fraction(compose, option, warmup):
    with pytest.raises(Exception, match="must be a fraction of training"):
        weighting_of(compose, option, warmup=warmup)


@pytest.mark.each_option("weighting")
def test_what_it_learnt_is_in_its_state(compose, option):
    taught, fresh = (weighting_of(compose, option) for _ in range(2))
    taught.observe_gradients(torch.tensor(2.0))
    taught.observe_validation(STEPS // 2, STEPS, 1.7)
    fresh.load_state_dict(taught.state_dict())
    assert float(fresh.coefficient(1.0)) == float(taught.coefficient(1.0))


def test_fixed_looks_at_nothing():
    weighting = Fixed(weight=0.3, warmup=0)
    weighting.observe_gradients(torch.tensor(100.0))
    weighting.observe_validation(50, STEPS, 9.0)
    assert weighting.coefficient(0.5) == 0.3


def test_the_ratio_is_reached_at_once_and_followed():
    weighting = GradientRatio(weight=1.0, warmup=0, target=0.1, memory=0.5)
    weighting.observe_gradients(torch.tensor(4.0))
    assert float(weighting.coefficient(0)) == pytest.approx(0.1 / 4)
    for _ in range(20):
        weighting.observe_gradients(torch.tensor(0.5))
    assert float(weighting.coefficient(0)) == pytest.approx(0.1 / 0.5, rel=1e-4)


@pytest.mark.parametrize("ratio", [0.0, math.inf, math.nan])
def test_a_gradient_that_says_nothing_counts_for_nothing(ratio):
    weighting = GradientRatio(weight=1.0, warmup=0, target=0.1, memory=0.5)
    weighting.observe_gradients(torch.tensor(ratio))
    assert float(weighting.coefficient(0)) == 1.0
    weighting.observe_gradients(torch.tensor(2.0))
    weighting.observe_gradients(torch.tensor(ratio))
    assert float(weighting.coefficient(0)) == pytest.approx(0.05)


def budget_of(weight=1.0, warmup=0.0, target=0.1, memory=0.5, nats=0.02, rate=20, lead=0.0, baseline=lambda step: 2.0):
    budget = Budget(weight, warmup, target, memory, nats, rate, lead, lambda _: baseline)
    budget.attach(OmegaConf.create())
    return budget


def train_against(cost, budget, steps=STEPS, every=20, lag=0.5):
    """A training whose validation loss is ``cost(lambda)`` above the baseline's 2 nats, with a lag."""
    spent = 0.0
    for step in range(0, steps, every):
        spent += (1 - lag) * (cost(float(budget.coefficient(step / steps))) - spent)
        budget.observe_validation(step + every, steps, 2.0 + spent)
    return spent


@pytest.mark.parametrize("cost", [lambda x: x, lambda x: x**2, lambda x: 30 * x, lambda x: 0.3 * math.sqrt(x)])
@pytest.mark.parametrize("weight", [1e-3, 1e-2, 0.5])
@pytest.mark.parametrize("lead", [0, 0.1])
def test_the_budget_is_spent_whatever_lambda_costs(cost, weight, lead):
    budget = budget_of(weight, warmup=0.1, lead=lead)
    assert train_against(cost, budget) == pytest.approx(0.02, rel=0.3)


def test_the_budget_waits_for_the_warmup_and_counts_progress_since_the_last_validation():
    budget = budget_of(warmup=0.5)
    budget.observe_validation(450, STEPS, 2.0)
    assert float(budget.full()) == 1.0
    budget.observe_validation(550, STEPS, 2.0)
    assert float(budget.full()) == pytest.approx(math.exp(20 * 0.1))


def test_the_baseline_is_read_at_the_same_step():
    budget = budget_of(baseline={100: 2.0, 200: 1.0}.__getitem__)
    budget.observe_validation(100, STEPS, 2.02)
    budget.observe_validation(200, STEPS, 1.02)
    assert float(budget.full()) == pytest.approx(1.0)  # exactly the budget is spent: no change


def test_an_overshoot_is_answered_but_not_without_bound():
    budget = budget_of()
    budget.observe_validation(50, STEPS, 9.0)
    assert float(budget.full()) == pytest.approx(math.exp(-20 * 0.05))


def test_what_rises_towards_the_budget_counts_as_what_it_will_be():
    budget = budget_of(nats=0.02, lead=0.1)
    budget.observe_validation(100, STEPS, 2.0)
    before = float(budget.full())
    budget.observe_validation(200, STEPS, 2.01)  # 0.01 more per tenth of the training: 0.02 after the next
    assert float(budget.full()) == pytest.approx(before)


def test_what_falls_fast_enough_by_itself_is_waited_for():
    budget = budget_of(nats=0.02, lead=0.1)
    budget.observe_validation(100, STEPS, 2.1)
    before = float(budget.full())
    budget.observe_validation(200, STEPS, 2.05)  # 0.05 less per tenth of the training: nothing left after the next
    assert float(budget.full()) == pytest.approx(before)
    budget.observe_validation(300, STEPS, 2.045)  # far too slow
    assert float(budget.full()) < before


def test_a_step_that_is_validated_again_changes_nothing():
    budget = budget_of(lead=0.1)
    for _ in range(2):
        budget.observe_validation(100, STEPS, 2.01)
        value = float(budget.full())
    budget.observe_validation(100, STEPS, 2.5)
    assert float(budget.full()) == value


def test_the_budget_begins_with_a_gradient_ratio_and_leaves_it_at_the_first_validation_after_the_warmup():
    budget = budget_of(warmup=0.1)
    budget.observe_gradients(torch.tensor(4.0))
    budget.observe_validation(50, STEPS, 9.0)
    budget.observe_gradients(torch.tensor(4.0))
    assert float(budget.full()) == pytest.approx(0.1 / 4)
    budget.observe_validation(150, STEPS, 2.02)  # exactly the budget is spent: no change
    budget.observe_gradients(torch.tensor(1e-3))
    assert float(budget.full()) == pytest.approx(0.1 / 4)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: GradientRatio(1.0, 0.0, target=0.0, memory=0.5),
        lambda: GradientRatio(1.0, 0.0, target=0.1, memory=1.0),
        lambda: budget_of(target=0.0),
        lambda: budget_of(nats=0.0),
        lambda: budget_of(rate=0.0),
        lambda: budget_of(lead=-0.1),
    ],
)
def test_what_makes_no_sense_is_an_error(wrong):
    with pytest.raises(ValueError, match="must be above 0"):
        wrong()
