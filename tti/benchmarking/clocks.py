"""Clocks with which the cost of a step is measured: functions that return seconds."""

import time
from collections.abc import Callable

import torch

Clock = Callable[[], float]


def cpu() -> float:
    """CPU seconds of this process, over all its threads: robust where other processes share the machine."""
    return time.process_time()


def wall() -> float:
    """Wall-clock seconds, read after the GPU, if there is one, has finished its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
