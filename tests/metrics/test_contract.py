"""Properties of every configured metric, whatever it measures."""

import pytest
import torch
from hydra.utils import instantiate

from tests.conftest import make_batch
from tti.metrics.loss import Loss
from tti.models.network import Site
from tti.models.taps import Recorder
from tti.step import Batch, Step

LENGTHS = [9, 5, 12, 1, 7]


def steps_of(net, sites, splits):
    """The same stories in steps of `splits` stories, with the number of types of the whole set."""
    whole = make_batch(LENGTHS)
    starts = [sum(LENGTHS[:story]) for story in range(len(LENGTHS) + 1)]
    first = 0
    for count in splits:
        part = slice(starts[first], starts[first + count])
        lengths = LENGTHS[first : first + count]
        stories = make_batch(lengths).stories
        tokens, targets, types = whole.tokens[part], whole.targets[part], whole.types[part]
        batch = Batch(tokens, targets, stories, types, whole.n_types, target_bytes=3 * len(tokens))
        recorder = Recorder(sites)
        with torch.no_grad():
            _, nll = net.loss(net(tokens, stories, recorder), targets)
        yield Step(batch, nll, recorder.activations, net)
        first += count


def metrics_of(compose, option, net):
    metrics = instantiate(compose("model=tiny", f"metrics={option}").metrics)
    for metric in metrics.values():
        metric.attach(net.sites, make_batch(LENGTHS).n_types)
    return metrics


def measured(metric, steps):
    for step in steps:
        metric.update(step)
    return metric.compute()


@pytest.mark.each_option("metrics")
def test_uneven_batches_measure_what_one_does(compose, make_net, option):
    net = make_net()
    for metric in metrics_of(compose, option, net).values():
        whole = measured(metric, steps_of(net, metric.sites, [5]))
        metric.reset()
        parts = measured(metric, steps_of(net, metric.sites, [1, 3, 1]))
        assert whole.keys() == parts.keys()
        assert len(whole) > 0
        for name in whole:
            assert parts[name].item() == pytest.approx(whole[name].item(), rel=1e-5, abs=1e-6), name
            assert whole[name].isfinite(), name


@pytest.mark.each_option("metrics")
def test_names_say_metric_site_and_layer_and_the_mean_is_over_layers(compose, make_net, option):
    net = make_net()
    for metric in metrics_of(compose, option, net).values():
        values = measured(metric, steps_of(net, metric.sites, [5]))
        means = {name.removesuffix("/mean") for name in values if name.endswith("/mean")}
        assert means
        for name in means:
            layers = [values[f"{name}/layer_{layer}"].item() for layer in range(2)]
            assert values[f"{name}/mean"].item() == pytest.approx(sum(layers) / 2)
        assert len(values) == 3 * len(means)


@pytest.mark.each_option("metrics")
def test_measuring_draws_nothing_and_keeps_no_graph(compose, make_net, option):
    net = make_net()
    state = torch.get_rng_state()
    for metric in metrics_of(compose, option, net).values():
        values = measured(metric, steps_of(net, metric.sites, [5]))
        assert all(value.ndim == 0 and not value.requires_grad for value in values.values())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.each_option("metrics")
def test_a_site_that_is_not_there_is_an_error(compose, option):
    for metric in instantiate(compose("model=tiny", f"metrics={option}").metrics).values():
        with pytest.raises(ValueError, match=r"no site of this model matches .*; it has: embed"):
            metric.attach({"embed": Site(4)}, 10)


@pytest.mark.each_option("metrics")
def test_metrics_of_one_group_have_names_of_their_own(compose, make_net, option):
    net = make_net()
    names = [
        name
        for metric in metrics_of(compose, option, net).values()
        for name in measured(metric, steps_of(net, metric.sites, [5]))
    ]
    assert len(names) == len(set(names))


def test_loss_of_uneven_batches_is_that_of_one(make_net):
    net, metric = make_net(), Loss()
    whole = measured(metric, steps_of(net, (), [5]))
    metric.reset()
    parts = measured(metric, steps_of(net, (), [2, 1, 2]))
    assert {k: v.item() for k, v in parts.items()} == pytest.approx({k: v.item() for k, v in whole.items()}, rel=1e-7)
