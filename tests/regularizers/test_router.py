"""Load balance, z-loss and specialization for routings with known answers; two processes equal one."""

import math
from datetime import timedelta

import pytest
import torch
from torch import distributed, multiprocessing, nn

from tti.models.network import Site
from tti.models.stories import Separate
from tti.regularizers.load_balance import LoadBalance, balance
from tti.regularizers.router_z import RouterZ
from tti.regularizers.specialization import Specialization
from tti.step import Batch, Step

E, K = 6, 2
SURE = 50.0  # a logit that leaves experts with logit 0 a probability of 1e-20
FIRST, SECOND = (f"blocks.{i}.mlp.router_logits" for i in range(2))


def certain(experts):
    """Logits that choose these experts for each token with equal weights, and the matching gates."""
    logits, gates = torch.zeros(len(experts), E), torch.zeros(len(experts), E)
    chosen = torch.tensor(experts)
    return logits.scatter(1, chosen, SURE), gates.scatter(1, chosen, 1 / chosen.shape[1])


def step_of(layers, tasks=None):
    """A step with the logits and gates of two layers."""
    rows = len(layers[0][0])
    zeros = torch.zeros(rows, dtype=torch.long)
    labels = {} if tasks is None else {"task": torch.tensor(tasks)}
    batch = Batch(zeros, zeros, Separate.of([rows]), zeros, 1, target_bytes=rows, labels=labels)
    activations = {}
    for i, (logits, gates) in enumerate(layers):
        activations |= {f"blocks.{i}.mlp.router_logits": logits, f"blocks.{i}.mlp.gates": gates}
    return Step(batch, torch.ones(rows), activations, nn.Identity())


def attached(term):
    term.attach(
        {name: Site(E) for i in range(2) for name in (f"blocks.{i}.mlp.router_logits", f"blocks.{i}.mlp.gates")}
    )
    return term


def load_balance():
    return attached(LoadBalance("blocks.*.mlp.router_logits", 1.0, 0.0))


def specialization():
    return attached(Specialization("blocks.*.mlp.router_logits", 1.0, 0.0, "task"))


EVEN = certain([[0, 1], [2, 3], [4, 5]])
COLLAPSED = certain([[0, 1]] * 3)
COLLAPSED_ELSEWHERE = certain([[2, 3]] * 3)


def test_balance_is_1_when_even_and_experts_over_k_when_all_tokens_choose_the_same():
    assert load_balance()(step_of([EVEN, EVEN])).item() == pytest.approx(1)
    assert load_balance()(step_of([COLLAPSED, COLLAPSED])).item() == pytest.approx(E / K)


def test_layers_that_collapse_onto_experts_of_their_own_are_not_balanced():
    layers = [COLLAPSED, COLLAPSED_ELSEWHERE, certain([[4, 5]] * 3)][:2]
    assert load_balance()(step_of(layers)).item() == pytest.approx(E / K)
    assert load_balance()(step_of([EVEN, COLLAPSED])).item() == pytest.approx((1 + E / K) / 2)


def test_balance_of_an_undecided_router_is_1_whatever_it_assigns():
    assert balance(torch.zeros(3, E), COLLAPSED[1]).item() == pytest.approx(1)


def test_balance_pulls_probability_from_the_experts_with_more_than_their_share():
    logits = torch.zeros(3, E, requires_grad=True)
    balance(logits, certain([[0, 1], [0, 2], [0, 3]])[1]).backward()
    assert (logits.grad[:, 0] > 0).all()
    assert (logits.grad[:, 4:] < 0).all()


def test_balance_acts_on_router_logits_only():
    term = LoadBalance("*", 1.0, 0.0)
    with pytest.raises(ValueError, match=r"load_balance acts on blocks\.\*\.mlp\.router_logits, not on embed"):
        term.attach({"embed": Site(4)})


def test_z_is_the_squared_log_of_the_sum():
    term = attached(RouterZ("blocks.*.mlp.router_logits", 1.0, 0.0))
    zeros = torch.zeros(3, E), torch.zeros(3, E)
    assert term(step_of([zeros, zeros])).item() == pytest.approx(math.log(E) ** 2)
    shifted = torch.full((3, E), 2 - math.log(E)), zeros[1]
    assert term(step_of([zeros, shifted])).item() == pytest.approx((math.log(E) ** 2 + 4) / 2)


TASKS = [0, 1, 2]


@pytest.mark.parametrize(("experts", "conditional", "information"), [
    ([[0], [1], [2]], 0, math.log(3)),  # the task decides the expert: I(E; T) = H(T)
    ([[0], [0], [0]], 0, 0),  # collapse
    ([[0, 1], [2, 3], [4, 5]], math.log(2), math.log(3)),  # two experts per task
])  # fmt: skip
def test_specialization_is_what_is_left_of_the_entropy_given_the_task(experts, conditional, information):
    step, term = step_of([certain(experts)] * 2, TASKS), specialization()
    assert term(step).item() == pytest.approx(conditional, abs=1e-5)
    assert step.notes["information"].item() == pytest.approx(information, abs=1e-5)


def test_even_routing_leaves_all_of_it():
    even = torch.zeros(3, E), torch.zeros(3, E)
    step, term = step_of([even, even], TASKS), specialization()
    assert term(step).item() == pytest.approx(math.log(E))
    assert step.notes["information"].item() == pytest.approx(0, abs=1e-6)


def test_its_gradient_is_that_of_the_formula():
    logits, tasks = torch.randn(30, E, dtype=torch.float64), torch.arange(30) % 3
    logits.requires_grad_()
    p = logits.softmax(-1)
    joint = torch.stack([p[tasks == t].sum(0) for t in range(3)]) / 30
    expected = -(joint * joint.log()).sum() + (joint.sum(1) * joint.sum(1).log()).sum()
    (wanted,) = torch.autograd.grad(expected, logits)
    step = step_of([(logits, torch.zeros(30, E))] * 2, tasks.tolist())
    (found,) = torch.autograd.grad(specialization()(step), logits)
    torch.testing.assert_close(found, wanted, atol=1e-7, rtol=1e-4)


def test_specialization_says_which_label_it_needs():
    assert specialization().labels == ("task",)


# -- two processes ----------------------------------------------------------------------------------------------------

ROWS = [0, 7, 20]  # where the rows of each process begin


def penalties(rows, share):
    """Values of both penalties, and one process's contribution to the gradients of a shared weight."""
    generator = torch.Generator().manual_seed(0)
    inputs, tasks = torch.randn(20, 4, generator=generator), torch.arange(20) % 3
    weight = torch.randn(4, E, generator=generator, requires_grad=True)
    logits = inputs[rows] @ weight
    gates = torch.zeros(len(logits), E).scatter(1, logits.topk(K).indices, 0.5)
    found = []
    for term in (load_balance(), specialization()):
        penalty = term(step_of([(logits, gates)] * 2, tasks[rows].tolist()))
        found += [penalty.detach(), torch.autograd.grad(penalty * share, weight, retain_graph=True)[0]]
    return found


def together(rank, folder):
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting"
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2, timeout=timedelta(minutes=2))
    try:
        rows = slice(ROWS[rank], ROWS[rank + 1])
        return penalties(rows, share=(rows.stop - rows.start) / 10)
    finally:
        distributed.destroy_process_group()


def second(_, folder):
    torch.save(together(1, folder), f"{folder}/second.pt")


def test_two_processes_penalise_what_one_does(tmp_path):
    process = multiprocessing.start_processes(second, (str(tmp_path),), nprocs=1, join=False, start_method="spawn")
    first = together(0, str(tmp_path))
    process.join()
    other = torch.load(tmp_path / "second.pt")
    for here, there, alone in zip(first, other, penalties(slice(0, 20), 1.0), strict=True):
        torch.testing.assert_close((here + there) / 2, alone, atol=1e-6, rtol=1e-4)
    assert all(torch.allclose(first[i], other[i]) for i in (0, 2))
