import pytest
import torch

from tti.benchmarking.operations import Counted
from tti.benchmarking.original import Original
from tti.benchmarking.ours import Ours
from tti.benchmarking.setting import Setting
from tti.data.sentences import FACTORS, RANK


@pytest.mark.parametrize(
    "planted",
    [
        lambda x: x.sum().item(),
        lambda x: x.tolist(),
        lambda x: x.numpy(),
        lambda x: bool(x.any()),
        lambda x: torch.equal(x, x + 1),
    ],
)
def test_a_planted_wait_is_found(planted):
    with Counted() as counted:
        planted(torch.ones(3))
    assert counted.waits.total() == 1
    assert not counted.shapes


@pytest.mark.parametrize(
    "planted",
    [
        lambda x: x.unique(),
        lambda x: x.nonzero(),
        lambda x: x.masked_select(x > 0),
        lambda x: x[x > 0],
        lambda x: x.repeat_interleave(x.long()),
    ],
)
def test_a_planted_data_dependent_shape_is_found(planted):
    with Counted() as counted:
        planted(torch.ones(3))
    assert counted.shapes.total() >= 1


def test_what_needs_nothing_from_the_device_is_counted_as_nothing():
    x = torch.ones(3, requires_grad=True)
    with Counted() as counted:
        (2 * x[torch.tensor([0, 2])]).sum().backward()
    assert counted.operations["mul.Tensor"] == 2  # forward and backward
    assert not counted.waits
    assert not counted.shapes


@pytest.mark.each_option("regularizer")
def test_our_step_waits_for_nothing_with_any_regularizer(setting, option):
    moe = ["model/mlp=moe"]
    codes = ["model=autoencoder", "data=sentences", "task=autoencoder"]
    needs = {
        "l0": ["model/mlp=hard_concrete"],
        "decoys": ["model/mlp=decoys"],
        "reconstruction": ["model/mlp=codebook"],
        "load_balance": moe,
        "router_z": moe,
        "specialization": [*moe, "data=grammar_tasks", "data.scored=null"],
        "kl": codes,
        "total_correlation": codes,
        "concepts": ["model/bottleneck=concepts", "data=grammar", "data.labels=[factors]"],
        "supervision": [*codes, f"data.labels=[{','.join((*FACTORS, RANK))}]"],
    }.get(option, [])
    setting = setting.having(f"regularizer={option}", *needs)
    ours = Ours(setting)
    ours.step(setting.samples[0])
    with Counted() as counted:
        ours.step(setting.samples[1])
    assert counted.operations.total() > 100
    assert not counted.waits
    assert not counted.shapes


def test_the_original_waits_for_its_loss(setting):
    original = Original(setting)
    with Counted() as counted:
        original.step(setting.samples[0])
    assert counted.waits["_local_scalar_dense"] >= 1


def test_the_option_of_a_group_takes_back_what_was_set_in_it():
    setting = Setting(("data=tinystories", "data.corpus.tokenizer=gpt2", "model=tiny"), stories=1, steps=1, threads=1)
    assert setting.having("data=grammar_tasks").overrides == ("data=tinystories", "model=tiny", "data=grammar_tasks")
    assert setting.having("data.corpus.column=x").overrides == (*setting.overrides, "data.corpus.column=x")
