"""Pairs from a sample of the neurons, drawn anew at every step."""

import pytest
import torch

from tti.models.network import Site
from tti.modules.protocols import Drawing
from tti.regularizers.decorrelation import Decorrelation
from tti.regularizers.orthogonality import Orthogonality

KINDS = [Orthogonality, Decorrelation]
SITE = "blocks.0.mlp_out"


def attached(kind, sample, sites=None):
    term = kind("*", weight=1.0, warmup=0.0, sample=sample)
    term.attach(sites or {SITE: Site(8)})
    return term


def activations(width=8):
    return torch.randn(12, width, generator=torch.Generator().manual_seed(0)) + 0.5


def value_and_gradient(term, acts, make_step):
    acts = acts.requires_grad_()
    value = term(make_step(acts))
    return value.detach(), *torch.autograd.grad(value, acts)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sample", [2, 3])
def test_value_and_gradient_are_right_on_average(make_step, kind, sample):
    term, generator, draws = attached(kind, sample), torch.Generator().manual_seed(0), []
    for _ in range(400):
        term.draw(generator)
        draws.append(value_and_gradient(term, activations(), make_step))
    exact = value_and_gradient(attached(kind, None), activations(), make_step)
    for drawn, expected in zip(map(torch.stack, zip(*draws, strict=True)), exact, strict=True):
        error = (drawn.mean(0) - expected).abs()
        assert (error < 5 * drawn.std(0) / len(draws) ** 0.5).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_of_all_is_all(make_step, kind):
    term = attached(kind, 8)
    term.draw(torch.Generator().manual_seed(3))
    sampled = value_and_gradient(term, activations(), make_step)
    torch.testing.assert_close(sampled, value_and_gradient(attached(kind, None), activations(), make_step))


@pytest.mark.parametrize("kind", KINDS)
def test_before_the_first_draw_it_is_the_first_neurons(make_step, kind):
    value, gradient = value_and_gradient(attached(kind, 3), activations(), make_step)
    kept, kept_gradient = value_and_gradient(attached(kind, None), activations()[:, :3], make_step)
    torch.testing.assert_close(value, kept)
    torch.testing.assert_close(gradient[:, :3], kept_gradient)
    assert (gradient[:, 3:] == 0).all()


def test_a_draw_depends_on_its_generator_only(make_step):
    term, step = attached(Orthogonality, 3), make_step(activations())
    state = torch.get_rng_state()

    def drawn(seed):
        term.draw(torch.Generator().manual_seed(seed))
        return term(step).item()

    once = [drawn(seed) for seed in range(10)]
    assert [drawn(seed) for seed in reversed(range(10))] == once[::-1]
    assert len(set(once)) > 5
    assert torch.equal(torch.get_rng_state(), state)


def test_it_is_told_when_to_draw_and_leaves_nothing_in_the_checkpoint():
    assert isinstance(attached(Orthogonality, 3), Drawing)
    assert not attached(Orthogonality, 3).state_dict()


def test_without_a_sample_nothing_is_drawn():
    generator = torch.Generator().manual_seed(0)
    state = generator.get_state()
    attached(Orthogonality, None).draw(generator)
    assert torch.equal(generator.get_state(), state)


def test_sites_of_several_widths_are_sampled_each_from_all_of_its_neurons(make_step):
    term = attached(Orthogonality, 3, {SITE: Site(8), "blocks.0.mlp.post": Site(32)})
    step = make_step(activations(8).requires_grad_())
    wide = step.activations["blocks.0.mlp.post"] = activations(32).requires_grad_()
    reached, generator = torch.zeros(32, dtype=torch.bool), torch.Generator().manual_seed(0)
    for _ in range(100):
        term.draw(generator)
        (gradient,) = torch.autograd.grad(term(step), wide)
        assert (gradient != 0).any(0).sum() == 3
        reached |= (gradient != 0).any(0)
    assert reached.all()


@pytest.mark.parametrize("sample", [-1, 0, 1, 9])
def test_a_sample_that_cannot_be_drawn_is_an_error(sample):
    with pytest.raises(ValueError, match=rf"sample={sample} neurons: from 2, a pair, to 8, the narrowest site"):
        attached(Orthogonality, sample, {SITE: Site(8), "blocks.0.mlp.post": Site(32)})
