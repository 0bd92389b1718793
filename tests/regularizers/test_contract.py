"""Properties of every regularizer in the configuration, and of the base class."""

from dataclasses import replace

import pytest
import torch
from hydra.utils import instantiate

from tests.conftest import make_batch, options
from tti.data.grammar import StoryGrammar
from tti.data.sentences import FACTORS, RANK
from tti.models.network import Site
from tti.models.taps import Recorder
from tti.regularizers.base import ActivationRegularizer
from tti.step import Step


def terms_of(compose, option, *overrides):
    return instantiate(compose("model=tiny", f"regularizer={option}", *overrides).regularizer)


def step_of(net, sites, lengths=(9, 5, 12)):
    batch = make_batch(list(lengths))
    numbered = torch.arange(len(batch))
    of_sentences = dict.fromkeys((*FACTORS, RANK), 0 * numbered)
    of_grammar = (numbered % 3)[:, None].expand(-1, len(StoryGrammar().factors))
    batch = replace(batch, labels={"task": numbered % 3, "factors": of_grammar, **of_sentences})
    recorder = Recorder(sites)
    _, nll = net.loss(net(batch.tokens, batch.stories, recorder), batch.targets)
    return Step(batch, nll, recorder.activations, net)


def networks_for(term, make_net):
    """A network for each MLP, with a bottleneck, or an autoencoder, with the sites that the regularizer needs.

    The choices of a codebook pass no gradient: the objective refuses a regularizer of them.
    """
    mlps = (f"model/mlp={mlp}" for mlp in options("model/mlp"))
    for overrides in (*mlps, "model/bottleneck=concepts", "model=autoencoder"):
        net = make_net(overrides)
        try:
            term.attach(net.sites)
        except ValueError:
            continue
        if any(acts.requires_grad for acts in step_of(net, term.sites).activations.values()):
            yield net


@pytest.mark.each_option("regularizer")
def test_penalty_is_a_finite_scalar_whose_gradient_reaches_the_network(compose, make_net, option):
    for term in terms_of(compose, option).values():
        networks = list(networks_for(term, make_net))
        assert networks
        for net in networks:
            step = step_of(net, term.sites)
            state = torch.get_rng_state()
            penalty = term(step)
            assert torch.equal(torch.get_rng_state(), state), "draws must come from a generator of its own"
            assert penalty.shape == ()
            assert penalty.isfinite()
            penalty.backward()
            assert torch.equal(torch.get_rng_state(), state)
            gradients = [p.grad for p in net.parameters() if p.grad is not None]
            assert all(gradient.isfinite().all() for gradient in gradients)
            assert any(gradient.abs().sum() > 0 for gradient in gradients)
            assert all(
                value.ndim == 0 and value.isfinite() and not value.requires_grad for value in step.notes.values()
            )


@pytest.mark.each_option("regularizer")
def test_making_one_shifts_no_random_number(compose, option):
    state = torch.get_rng_state()
    terms_of(compose, option)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.each_option("regularizer")
def test_dead_activations_have_a_finite_penalty_and_gradient(compose, make_net, option):
    for term in terms_of(compose, option).values():
        net = next(networks_for(term, make_net))
        step = step_of(net, term.sites)
        dead = {site: torch.zeros_like(acts).requires_grad_() for site, acts in step.activations.items()}
        penalty = term(Step(step.batch, step.nll, dead, net))
        assert penalty.isfinite()
        assert all(
            gradient.isfinite().all()
            for gradient in torch.autograd.grad(penalty, list(dead.values()), materialize_grads=True)
        )


@pytest.mark.each_option("regularizer")
def test_bfloat16_activations_give_about_the_same_penalty(compose, make_net, option):
    for term in terms_of(compose, option).values():
        net = next(networks_for(term, make_net))
        step = step_of(net, term.sites)
        halved = {site: acts.detach().bfloat16().requires_grad_() for site, acts in step.activations.items()}
        penalty = term(Step(step.batch, step.nll, halved, net))
        assert penalty.dtype == torch.float32
        assert penalty.item() == pytest.approx(term(step).item(), rel=0.02)
        penalty.backward()
        gradients = [acts.grad for acts in halved.values() if acts.grad is not None]  # gates have none
        assert gradients
        assert all(each.dtype == torch.bfloat16 and each.isfinite().all() for each in gradients)


@pytest.mark.each_option("regularizer")
def test_every_knob_stands_in_the_yaml(compose, option):
    for name, config in compose("model=tiny", f"regularizer={option}").regularizer.items():
        assert name == option, "logged under the name of its file"
        assert {"_target_", "sites", "weight", "warmup"} <= config.keys()


@pytest.mark.each_option("regularizer")
def test_a_site_that_is_not_there_is_an_error_that_lists_those_that_are(compose, make_net, option):
    for name in compose("model=tiny", f"regularizer={option}").regularizer:
        term = terms_of(compose, option, f"regularizer.{name}.sites=blocks.*.mlp_uot")[name]
        with pytest.raises(ValueError, match=r"'blocks\.\*\.mlp_uot'; it has: .*blocks\.\*\.mlp_out"):
            term.attach(make_net().sites)


def test_several_combine(compose):
    chosen = compose("model=tiny", "regularizer=[l1,orthogonality]").regularizer
    assert set(chosen) == {"l1", "orthogonality"}


class Mean(ActivationRegularizer):
    """The mean activation, to test the base class."""

    def penalty(self, acts, step):
        return acts.mean()


def test_penalties_are_averaged_over_sites(make_step):
    term = Mean("blocks.*.mlp_out", weight=1.0, warmup=0.0)
    values = {f"blocks.{layer}.mlp_out": float(layer) for layer in range(12)}
    term.attach(dict.fromkeys(values, Site(4)))
    step = make_step(torch.zeros(3, 4))
    step.activations.update({site: torch.full((3, 4), value) for site, value in values.items()})
    assert term(step).item() == pytest.approx(5.5)


def test_sites_with_heads_are_laid_side_by_side(compose, make_net):
    net = make_net()
    (regularizer,) = terms_of(compose, "orthogonality", "regularizer.orthogonality.sites=blocks.*.attn.z").values()
    regularizer.attach(net.sites)
    step = step_of(net, regularizer.sites)
    flat = torch.stack([regularizer.penalty(step.activations[site].flatten(1), step) for site in regularizer.sites])
    assert torch.equal(regularizer(step), flat.mean())
