"""Peak memory of the process."""

import resource
import sys

import torch


def peak_mib(device: torch.device) -> float:
    """Peak MiB so far: allocated on a GPU, otherwise resident (Linux; NaN elsewhere)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if sys.platform != "linux":
        return float("nan")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
