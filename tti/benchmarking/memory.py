"""The peak memory of a step, beyond the memory in use between steps."""

import ctypes
import gc
import math
import multiprocessing
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import ParamSpec, TypeVar

import torch
from hydra.errors import HydraException

from tti.benchmarking.loop import Loop, warm_up
from tti.benchmarking.progress import shown
from tti.benchmarking.sample import Sample
from tti.benchmarking.setting import Setting

P = ParamSpec("P")
T = TypeVar("T")
NONE = "-"
MEANING = (
    "Peak memory: the peak during some steps in the loop's own process, less the memory in use before them. It counts "
    "gradients, activations, logits and kernel buffers, but not the weights and the optimizer's state."
)


def peaks(loops: Mapping[str, Callable[[Setting], Loop]], setting: Setting, title: str) -> dict[str, float]:
    """Peak MiB by loop; empty where memory cannot be measured.

    Raises:
        MemoryError: as for :func:`peak_mib`.
    """
    if not available():
        return {}
    return {name: peak_mib(loops[name], setting) for name in shown(list(loops), title)}


def cells(peaks: Mapping[str, float], name: str, reference: str) -> list[str]:
    """The cells of a table: a loop's peak in MiB and in percent of the reference's."""
    if not peaks:
        return [NONE, NONE]
    return [f"{peaks[name]:,.0f}", f"{100 * peaks[name] / peaks[reference]:.0f}"]


def peak_mib(loop: Callable[[Setting], Loop], setting: Setting) -> float:
    """Peak MiB of a loop's steps over the setting's samples, in a fresh process.

    Raises:
        MemoryError: as for :func:`in_a_process`.
    """
    return in_a_process(_peak_mib, loop, setting)


def in_a_process(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The result of some work in a fresh process, whose memory is the work's own.

    Raises:
        MemoryError: the process was killed, as Linux does when memory runs out.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(_plainly, partial(work, *args, **kwargs)).result()
        except BrokenProcessPool as error:
            raise MemoryError(f"{work} was killed, most likely because memory ran out") from error


def _plainly(work: Callable[[], T]) -> T:
    """The result of the work; Hydra's errors, which cannot be sent between processes, become ValueErrors."""
    try:
        return work()
    except HydraException as error:
        raise ValueError(str(error)) from None


def _peak_mib(make: Callable[[Setting], Loop], setting: Setting) -> float:
    setting.seed()
    loop = make(setting)
    warm_up(loop, setting.samples)
    return peak_of_steps(loop, setting.samples)


def peak_of_steps(loop: Loop, samples: Sequence[Sample]) -> float:
    """Peak MiB of a warm loop's steps."""
    loop.net.zero_grad()
    # Twice, so that gradients count that are kept into the next step's forward pass.
    return peak_of(lambda: warm_up(loop, [*samples, *samples]))


def peak_of(work: Callable[[], object]) -> float:
    """Peak MiB during some work, beyond those in use before; NaN where memory cannot be measured."""
    gc.collect()
    if not available():
        work()
        return math.nan
    return (_cuda_mib if torch.cuda.is_available() else resident_mib)(work)


def _cuda_mib(work: Callable[[], object]) -> float:
    torch.cuda.synchronize()
    rest = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    work()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - rest) / 2**20


def resident_mib(work: Callable[[], object]) -> float:
    """Peak resident MiB during some work, beyond those resident before it. Linux only."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # else freed memory kept by the allocator would count as in use
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    rest = _status("VmRSS")
    work()
    return (_status("VmHWM") - rest) / 2**10


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def available() -> bool:
    """Whether memory can be measured here: on a GPU or on Linux."""
    return torch.cuda.is_available() or sys.platform == "linux"
