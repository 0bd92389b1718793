import math

import pytest
import torch

from tests.conftest import make_batch
from tti.models.hard_concrete import HardConcreteGates
from tti.models.taps import Recorder
from tti.regularizers.l0 import L0

CLOSED = math.log(0.1 / 1.1)  # the stretched sigmoid reaches 0 here


def gates(log_alpha, width=1):
    made = HardConcreteGates(width, learning_rate=0.05)
    made.log_alpha.data.fill_(log_alpha)
    return made


@pytest.mark.parametrize(("log_alpha", "expected"), [(-9, 0), (CLOSED - 1e-4, 0), (0, 0.5), (9, 1)])
def test_in_evaluation_a_gate_is_what_its_parameter_says(log_alpha, expected):
    assert gates(log_alpha).eval()().item() == pytest.approx(expected, abs=1e-6)


def test_a_gate_opens_only_above_the_closing_point():
    assert gates(CLOSED - 1e-4).eval()().item() == 0
    assert gates(CLOSED + 1e-3).eval()().item() > 0


@pytest.mark.parametrize("log_alpha", [-2.0, 0.0, 1.5])
def test_the_open_probability_is_how_often_a_drawn_gate_is_not_0(log_alpha):
    many = gates(log_alpha, width=200_000).train()
    many.draw(torch.Generator().manual_seed(0))
    assert (many() > 0).float().mean().item() == pytest.approx(many.open_probability()[0].item(), abs=5e-3)


def test_a_gate_begins_open_with_probability_0_83():
    assert gates(0.0).open_probability().item() == pytest.approx(0.832, abs=1e-3)


def test_a_draw_is_a_function_of_its_generator_and_touches_no_other():
    one, other = gates(0.0, width=50).train(), gates(0.0, width=50).train()
    state = torch.get_rng_state()
    for each in (one, other):
        each.draw(torch.Generator().manual_seed(7))
    assert torch.equal(one(), other())
    assert torch.equal(one(), one()), "one draw a step"
    other.draw(torch.Generator().manual_seed(8))
    assert not torch.equal(one(), other())
    assert torch.equal(torch.get_rng_state(), state)


def test_gates_begin_without_shifting_other_weights(make_net):
    gated, dense = make_net("model/mlp=hard_concrete").state_dict(), make_net().state_dict()
    assert all(torch.equal(gated[name], value) for name, value in dense.items())


def test_closed_gates_are_exact_zeros_behind_the_non_linearity(make_net, compose):
    net = make_net("model/mlp=hard_concrete")
    batch, recorder = make_batch([9, 5]), Recorder(["blocks.0.mlp.post", "blocks.0.mlp.open"])
    net.blocks[0].mlp.gates.log_alpha.data[:10] = -3.0
    net(batch.tokens, batch.stories, recorder)
    post = recorder.activations["blocks.0.mlp.post"]
    assert (post[:, :10] == 0).all()
    assert (post[:, 10:] != 0).any(0).all()
    assert recorder.activations["blocks.0.mlp.open"].shape == (1, post.shape[1])


def test_l0_closes_gates_that_nothing_holds_open(make_net):
    net = make_net("model/mlp=hard_concrete").train()
    term = L0("blocks.*.mlp.open", weight=1.0, warmup=0.0)
    term.attach(net.sites)
    parameters = [block.mlp.gates.log_alpha for block in net.blocks]
    optimizer = torch.optim.Adam(parameters, lr=0.05)
    for _ in range(80):
        opened = torch.stack([block.mlp.gates.open_probability().mean() for block in net.blocks]).mean()
        optimizer.zero_grad()
        opened.backward()
        optimizer.step()
    assert all((block.mlp.gates.eval()() == 0).all() for block in net.blocks)
