import pytest
import torch

from tti.modules.schedules import cosine_with_warmup


def rates(steps: int, warmup: float) -> list[float]:
    """The learning rate of each step, and the one after the last."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    schedule = cosine_with_warmup(optimizer, steps, warmup)
    values = []
    for _ in range(steps + 1):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return values


def test_it_rises_in_a_line_to_the_peak_and_ends_at_zero():
    values = rates(100, 0.1)
    assert values[:10] == pytest.approx([0.2 * (step + 1) for step in range(10)])
    assert max(values) == values[9] == pytest.approx(2.0)
    assert values[-1] == 0.0
    assert values[10:] == sorted(values[10:], reverse=True)


def test_halfway_down_it_is_half():
    assert rates(110, 10 / 110)[60] == pytest.approx(1.0)


@pytest.mark.parametrize("warmup", [0.0, 0.001, 1.0])
def test_any_warmup_is_one_step_at_least(warmup):
    values = rates(10, warmup)
    assert 0 < values[0] <= 2.0
    assert max(values) == pytest.approx(2.0)
