"""The effect of each intervention on an activation, by hand; no intervention affects another site."""

import pytest
import torch

from tti.autoencoders.topk import TopK
from tti.interventions.ablate import Ablation
from tti.interventions.mask import Mask
from tti.interventions.moments import Moments
from tti.interventions.replace import Replacement
from tti.interventions.splice import Splice

SITE = "blocks.0.attn.z"
TAPS = {
    "replace": lambda: Replacement(SITE, lambda acts: acts + 1),
    "ablate": lambda: Ablation(SITE, torch.tensor([0, 3]), torch.tensor([5.0, 7])),
    "mask": lambda: Mask({SITE: torch.tensor([1, 0, 1, 0]).bool()}, {SITE: torch.tensor([9.0, 8, 7, 6])}),
    "splice": lambda: Splice(SITE, TopK(d_in=4, d_sae=8, seed=0, dead_after=1, k=1).eval()),
    "moments": lambda: Moments([SITE]),
}


@pytest.fixture
def acts():
    """Four tokens, two heads, two dimensions per head."""
    return torch.arange(16.0).view(4, 2, 2)


@pytest.mark.parametrize("name", TAPS)
def test_another_site_is_left_alone_and_the_shape_stays(name, acts):
    tap = TAPS[name]()
    assert tap("blocks.1.attn.z", acts) is acts
    with torch.no_grad():
        found = tap(SITE, acts)
    assert (found.shape, found.dtype) == (acts.shape, acts.dtype)


def test_a_replacement_sees_the_heads_concatenated(acts):
    seen = []
    Replacement(SITE, lambda flat: seen.append(flat) or flat)(SITE, acts)
    assert torch.equal(seen[0], acts.view(4, 4))


def test_each_copy_of_the_stories_lacks_its_own_neuron(acts):
    found = TAPS["ablate"]()(SITE, acts).view(2, 2, 4)
    expected = acts.view(2, 2, 4).clone()
    expected[0, :, 0], expected[1, :, 3] = 5, 7
    assert torch.equal(found, expected)


def test_a_mask_leaves_what_is_kept_and_holds_the_rest_at_its_mean(acts):
    found = TAPS["mask"]()(SITE, acts).view(4, 4)
    assert torch.equal(found[:, [0, 2]], acts.view(4, 4)[:, [0, 2]])
    assert found[:, [1, 3]].tolist() == [[8, 6]] * 4


def test_moments_of_several_calls_are_those_of_all_tokens(acts):
    tap = Moments([SITE])
    for part in acts.split(3):
        tap(SITE, part)
    flat = acts.view(4, 4).double()
    torch.testing.assert_close(tap.mean(SITE), flat.mean(0))
    assert tap.variance(SITE) == pytest.approx(flat.var(0, unbiased=False).sum().item())
