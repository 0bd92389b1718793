import sys

import pytest
import torch

from tti.benchmarking import memory

MIB = 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_known_allocation_is_the_peak_and_what_was_there_before_is_not():
    kept = torch.ones(32 * MIB // 4)
    memory.resident_mib(lambda: None)

    def work():
        for _ in range(3):
            torch.ones(64 * MIB // 4)

    assert memory.resident_mib(work) == pytest.approx(64, abs=4)
    assert len(kept)
