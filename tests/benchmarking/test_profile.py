import pytest

from tti.benchmarking.original import Original
from tti.benchmarking.ours import Ours
from tti.benchmarking.profile import BACKWARD, HEAD, by_operation, by_part, profiled

PARTS = {"attention", "MLP", "LayerNorm, dropout, residual", HEAD, "clipping", "optimizer"}


@pytest.mark.parametrize("make", [Ours, Original])
def test_the_parts_add_up_to_the_whole(setting, make):
    events = profiled(make(setting), setting)
    parts = by_part(events)
    assert set(parts) >= PARTS
    assert sum(parts.values()) == pytest.approx(sum(by_operation(events).values()))


def test_a_part_that_does_most_of_the_work_has_most_of_the_time_backward_pass_included(setting):
    wide = setting.having("model.mlp.d_ff=20000")
    events = profiled(Ours(wide), wide)
    parts = by_part(events)
    assert parts["MLP"] > 0.5 * (sum(parts.values()) - parts["optimizer"] - parts["clipping"])
    backward = [event for event in events if event.name.startswith(BACKWARD)]
    assert by_part([event for event in events if event not in backward])["MLP"] < parts["MLP"]


def test_regularizers_have_a_part_of_their_own(setting):
    added = setting.having("regularizer=l1")
    assert by_part(profiled(Ours(added), added))["regularizers"] > 0
