"""What a step's cost is read off: a clock is a function that gives seconds."""

import time
from collections.abc import Callable

import torch

Clock = Callable[[], float]


def cpu() -> float:
    """CPU seconds of this process, all its threads together: robust where other processes use the machine."""
    return time.process_time()


def wall() -> float:
    """Seconds on the wall, once the GPU, if there is one, has done all that it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
