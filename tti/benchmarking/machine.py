"""A description of the machine on which the figures were measured."""

import os
import platform
from pathlib import Path

import torch


def described(threads: int) -> str:
    """One line with the processor or GPU, the threads, and the versions of PyTorch and Python."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
    return (
        f"{device}; {threads} of {os.cpu_count()} cores; torch {torch.__version__}, Python {platform.python_version()}"
    )


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    features = " with bf16 instructions" if any("avx512_bf16" in line for line in lines) else ""
    return next(names, platform.processor() or platform.machine()) + features
