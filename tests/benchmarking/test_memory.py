import mmap
import sys

import pytest

from tti.benchmarking import memory

MIB = 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_known_allocation_is_the_peak_and_what_was_there_before_is_not():
    kept = _written(32)
    memory.resident_mib(lambda: None)

    def work():
        for _ in range(3):
            _written(64).close()

    assert memory.resident_mib(work) == pytest.approx(64, abs=4)
    assert len(kept)


def _written(mib):
    """Pages of their own, which closing gives back: an allocator may keep freed memory, and take other memory next."""
    pages = mmap.mmap(-1, mib * MIB)
    for _ in range(mib):
        pages.write(bytes(MIB))
    return pages
