"""Mixtures of experts, compared with loops over single tokens."""

from functools import partial

import pytest
import torch
from hydra.utils import instantiate
from torch.nn.functional import gelu, relu

from tti.models.generation import greedy
from tti.models.mlp import DenseMLP, TopKMLP
from tti.models.moe import MixtureOfExperts, Visits
from tti.models.routing import ByGroup, ByToken, FromPools, sums_so_far
from tti.models.stories import Grouped, Separate
from tti.models.taps import Recorder, no_tap

D, FF = 8, 6


def mixture(experts=5, top_k=2, shared=0, expert=None, router=None, seed=0):
    torch.manual_seed(seed)
    expert = expert or partial(DenseMLP, d_ff=FF, activation=gelu)
    return MixtureOfExperts(D, expert, router or partial(ByToken, top_k=top_k), experts, shared).double()


def inputs(tokens=40, seed=1):
    return torch.randn(tokens, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def loop(mlp, x):
    """The formula, computed token by token."""
    rows = []
    for token in x:
        logits = mlp.router.score(token)
        chosen = logits.topk(mlp.router.top_k).indices
        gates = logits[chosen].softmax(0)
        visits = [(1.0, j) for j in range(mlp.shared)]
        visits += [(gate, mlp.shared + int(j)) for gate, j in zip(gates, chosen, strict=True)]
        rows.append(
            sum(mlp.out.weight[j] @ (gate * mlp.hidden.hidden(mlp.inp.weight[j] @ token)) for gate, j in visits)
        )
    return torch.stack(rows)


@pytest.mark.parametrize("heard", [(), ("pre",), ("post",), ("experts.2.post", "gates", "router_logits")])
@pytest.mark.parametrize(("experts", "top_k", "shared"), [(5, 2, 0), (4, 4, 0), (3, 2, 2), (40, 2, 0), (1, 1, 1)])
def test_it_is_what_a_loop_over_tokens_gives_with_its_gradients(experts, top_k, shared, heard):
    mlp, x = mixture(experts, top_k, shared), inputs().requires_grad_()
    written, expected = mlp(x, Recorder(heard)), loop(mlp, x)
    torch.testing.assert_close(written, expected)
    both = (torch.autograd.grad(each.square().sum(), [x, *mlp.parameters()]) for each in (written, expected))
    for ours, theirs in zip(*both, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_one_expert_is_the_dense_mlp_to_the_last_digit():
    for tap in (no_tap, Recorder(["pre", "post"])):
        mlp, dense = mixture(1, 1).float(), DenseMLP(D, FF, gelu)
        dense.inp.weight.data, dense.out.weight.data = mlp.inp.weight.data[0], mlp.out.weight.data[0]
        x = inputs().float()
        assert torch.equal(mlp(x, tap), dense(x, no_tap))
        assert mlp.weights_per_token == dense.weights_per_token + D  # the router's


def test_all_experts_chosen_is_the_soft_mixture():
    mlp, x = mixture(4, 4), inputs()
    each = [gelu(x @ mlp.inp.weight[j].T) @ mlp.out.weight[j].T for j in range(4)]
    gates = mlp.router.score(x).softmax(-1)
    torch.testing.assert_close(mlp(x, no_tap), sum(gates[:, j, None] * each[j] for j in range(4)))


@pytest.fixture
def configured(compose):
    """A mixture of experts of this kind, as the command makes it."""

    def made(kind):
        config = compose("model=tiny", "model/mlp=moe", f"model/mlp@model.mlp.expert={kind}").model
        return instantiate(config.mlp)(config.d_model)

    return made


@pytest.mark.parametrize("kind", ["dense", "relu", "topk"])
def test_experts_are_mlps_of_any_kind_with_two_matrices(configured, kind):
    mlp, x = configured(kind), torch.randn(9, 64)
    torch.testing.assert_close(mlp(x, no_tap), mlp(x, Recorder(["post"])))


def test_an_expert_with_further_weights_is_refused(configured):
    with pytest.raises(Exception, match=r"an expert cannot be a HardConcreteMLP with gates\.log_alpha"):
        configured("hard_concrete")


def test_top_k_within_experts():
    mlp = mixture(expert=partial(TopKMLP, d_ff=FF, activation=relu, keep=0.5))
    torch.testing.assert_close(mlp(inputs(), no_tap), loop(mlp, inputs()))
    recorder = Recorder(["post"])
    mlp(inputs(), recorder)
    assert ((recorder.activations["post"] != 0).sum(1) <= 2 * 3).all()


def test_post_is_gate_times_activation_and_nothing_where_a_token_did_not_visit():
    mlp, x = mixture(), inputs()
    recorder = Recorder(["pre", "post", "gates", "router_logits", *(f"experts.{j}.post" for j in range(5))])
    written = mlp(x, recorder)
    at = recorder.activations
    gates, post = at["gates"], at["post"].view(len(x), 5, FF)
    assert (gates.count_nonzero(1) == 2).all()
    torch.testing.assert_close(gates.sum(1), torch.ones(len(x)).double())
    dense = gelu(x @ mlp.reads("pre").T).view(len(x), 5, FF)
    torch.testing.assert_close(post, gates[..., None] * dense)
    assert ((at["pre"].view(len(x), 5, FF) != 0).all(-1) == (gates > 0)).all()
    for j in range(5):
        assert torch.equal(at[f"experts.{j}.post"], post[:, j])
        assert torch.equal(mlp.writes(f"experts.{j}.post"), mlp.writes("post")[:, j * FF : (j + 1) * FF])
    torch.testing.assert_close(at["post"] @ mlp.writes("post").T, written)
    torch.testing.assert_close(at["router_logits"], x @ mlp.reads("router_logits").T)


def test_what_nobody_hears_is_not_laid_out(monkeypatch):
    mlp, spread = mixture(), []
    monkeypatch.setattr(Visits, "spread", lambda self, acts: spread.append(acts))
    mlp(inputs(), Recorder(["gates", "router_logits"]))
    mlp(inputs(), no_tap)
    assert not spread


def test_what_a_tap_returns_is_what_it_goes_on_with():
    mlp, x = mixture(), inputs()

    def changing(at, change):
        return lambda site, acts: change(acts) if site == at else acts

    ones = mlp(x, changing("post", torch.ones_like))
    torch.testing.assert_close(ones, mlp.writes("post").sum(1).expand_as(ones))
    torch.testing.assert_close(mlp(x, changing("gates", lambda gates: 2 * gates)), 2 * mlp(x, no_tap))
    closed = torch.tensor([0, -torch.inf, 0, 0, 0]).double()
    recorder = Recorder(["gates"])
    mlp(x, lambda site, acts: acts + closed if site == "router_logits" else recorder(site, acts))
    assert (recorder.activations["gates"] > 0).sum(1).tolist() == [2] * len(x)
    assert not recorder.activations["gates"][:, 1].any()


def test_permuting_neurons_within_experts_changes_nothing():
    mlp, x = mixture(), inputs()
    before = mlp(x, no_tap)
    mlp.permute(torch.randperm(mlp.width))
    torch.testing.assert_close(mlp(x, no_tap), before)


def test_it_says_what_it_is():
    assert mixture().described == "mixtures of experts of 6 neurons: each token visits 2 of 5"
    assert mixture(shared=1).described.endswith("each token visits 2 of 5, besides 1 that all tokens visit")


@pytest.mark.parametrize(("make", "message"), [
    (partial(ByToken, top_k=6), "top_k=6 experts per token, but experts=5"),
    (partial(ByToken, top_k=1), "top_k=1 of experts=5: .* does not train the router"),
    (partial(ByGroup, top_k=2, groups=3), "experts=5 shared among groups=3 leave 1 for some groups"),
    (partial(FromPools, top_k=2, pool=1), "pool=1 must be from top_k=2 to experts=5"),
    (partial(FromPools, top_k=2, pool=6), "pool=6 must be from top_k=2 to experts=5"),
])  # fmt: skip
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        mixture(router=make)


# -- the oracle -------------------------------------------------------------------------------------------------------


def layout_of(lengths, group=None, kind=Separate):
    layout = kind.of(lengths)
    object.__setattr__(layout, "group", None if group is None else torch.tensor(group))
    return layout


def test_an_oracle_gives_every_group_its_own_experts():
    mlp, x = mixture(6, router=partial(ByGroup, top_k=2, groups=3)), inputs(9)
    recorder = Recorder(["gates"])
    mlp.among(x, layout_of([2, 3, 4], [2, 0, 1]), recorder)
    on = recorder.activations["gates"] > 0
    for tokens, group in ((slice(0, 2), 2), (slice(2, 5), 0), (slice(5, 9), 1)):
        assert on[tokens].all(0).nonzero().flatten().tolist() == [group, group + 3]
        assert (on[tokens].sum(1) == 2).all()


def test_an_oracle_without_groups_is_an_error():
    mlp = mixture(6, router=partial(ByGroup, top_k=2, groups=3))
    for layout in (None, layout_of([9])):
        with pytest.raises(ValueError, match=r"these stories have none: set data\.group"):
            mlp.among(inputs(9), layout, no_tap)


@pytest.mark.parametrize("kind", [Separate, Grouped])
def test_a_layout_keeps_its_groups(kind):
    layout = layout_of([3, 1], [4, 7], kind)
    assert layout.to(torch.device("cpu")).group.tolist() == [4, 7]
    twice = layout.repeated(2)
    assert twice.lengths == (3, 1, 3, 1)
    assert twice.group.tolist() == [4, 7, 4, 7]
    assert kind.of([3]).repeated(2).group is None


# -- pools ------------------------------------------------------------------------------------------------------------


def pools(**sizes):
    return mixture(6, router=partial(FromPools, top_k=2, **sizes))


def test_sums_so_far_are_of_each_story():
    values = inputs(7).abs()
    expected = torch.cat([part.cumsum(0) for part in values.split([3, 1, 3])])
    torch.testing.assert_close(sums_so_far(values, Separate.of([3, 1, 3]).positions), expected)


def test_a_token_chooses_from_the_experts_that_its_story_has_favoured_so_far():
    mlp, x, layout = pools(pool=3), inputs(30), Separate.of([12, 18])
    recorder = Recorder(["router_logits", "gates"])
    mlp.eval().among(x, layout, recorder)
    logits, gates = (recorder.activations[site] for site in ("router_logits", "gates"))
    mass = torch.cat([part.cumsum(0) for part in logits.softmax(-1).split([12, 18])])
    for token in range(30):
        pool = mass[token].topk(3).indices
        chosen = pool[logits[token, pool].topk(2).indices]
        assert set(gates[token].nonzero().flatten().tolist()) == set(chosen.tolist())


def test_a_pool_of_all_experts_is_routing_by_token():
    mlp, x = pools(pool=6).eval(), inputs()
    torch.testing.assert_close(mlp(x, no_tap), loop(mlp, x))


def test_nothing_of_what_comes_later_or_of_other_stories_is_in_a_pool():
    mlp, x = pools(pool=2).eval(), inputs(30)
    together = mlp.among(x, Separate.of([12, 18]), no_tap)
    torch.testing.assert_close(mlp.among(x[12:], Separate.of([18]), no_tap), together[12:])
    torch.testing.assert_close(mlp(x[:5], no_tap), together[:5])


def test_the_size_of_a_pool_is_drawn_for_each_story_in_training_only():
    mlp, x, layout = pools(pool=2).train(), inputs(60), Separate.of([20, 20, 20])
    mlp.router.draw(torch.Generator().manual_seed(0))
    mlp.router.sizes[:3] = torch.tensor([2, 6, 3])
    opened = mlp.router.open(mlp.router.score(x), layout)
    assert opened.sum(1).tolist() == [2] * 20 + [6] * 20 + [3] * 20
    assert (mlp.eval().router.open(mlp.router.score(x), layout).sum(1) == 2).all()
    sizes = [torch.zeros(0)] * 2
    for i in range(2):
        mlp.router.draw(torch.Generator().manual_seed(5))
        sizes[i] = mlp.router.sizes.clone()
    assert torch.equal(*sizes)
    assert sizes[0].unique().tolist() == [2, 3, 4, 5, 6]


def test_a_network_with_pools_remembers_no_keys_and_decodes_as_it_predicts(make_net):
    net = make_net("model/mlp=moe", "model/mlp/router=pools", "model.mlp.router.pool=2").double()
    assert not net.attends_by_layout
    assert make_net("model/mlp=moe").attends_by_layout
    prompts = [[1, 2, 3], [4, 5]]
    for prompt, continued in zip(prompts, greedy(net, prompts, end=36, limit=3), strict=True):
        story = list(prompt)
        for token in continued:
            hidden = net(torch.tensor(story), Separate.of([len(story)]))
            assert int(net.logits(hidden[-1:]).argmax()) == token
            story.append(token)


# -- in training ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("router", ["token", "group", "pools"])
def test_it_can_be_looked_through_before_there_are_numbers(compose, router):
    overrides = ["model=tiny", "model/mlp=moe", f"model/mlp/router={router}", "model.vocab_size=30"]
    with torch.device("meta"):
        net = instantiate(compose(*overrides).model)
        assert net.sites["blocks.1.mlp.post"].width == 8 * 2 * 64
    dense = 2 * 64 * 4 * 64
    assert net.blocks[0].mlp.weights_per_token == dense + 8 * 64  # the router's


def test_under_autocast_experts_run_in_half_precision_and_the_router_does_not():
    mlp, x, recorder = mixture().float(), inputs().float(), Recorder(["router_logits", "pre"])
    with torch.autocast("cpu", torch.bfloat16):
        written = mlp(x, recorder)
    assert recorder.activations["router_logits"].dtype == torch.float32
    assert written.dtype == recorder.activations["pre"].dtype == torch.bfloat16
    torch.testing.assert_close(written.float(), mlp(x, no_tap), atol=0.02, rtol=0.05)
