import pytest

from tti.modules import clock
from tti.modules.clock import Clock


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A settable time."""
    time = [100.0]
    monkeypatch.setattr(clock.time, "perf_counter", lambda: time[0])
    return time


def test_it_counts_while_it_runs(now):
    timer = Clock()
    timer.start()
    now[0] += 2
    assert timer.seconds == 2
    timer.stop()
    now[0] += 5
    assert timer.seconds == 2
    timer.start()
    timer.start()
    now[0] += 1
    assert timer.seconds == 3


def test_it_goes_on_from_a_checkpoint(now):
    timer = Clock()
    timer.start()
    timer.seconds = 50
    now[0] += 1
    assert timer.seconds == 51
