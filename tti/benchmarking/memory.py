"""The peak memory of a step, beyond what lies there between steps."""

import ctypes
import gc
import multiprocessing
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import torch

from tti.benchmarking.loop import Loop, warm_up
from tti.benchmarking.progress import shown
from tti.benchmarking.setting import Setting

NONE = "-"
MEANING = (
    "Peak memory: that of some steps in a process of the loop's own, less what lies there before them. So beyond "
    "weights and the optimiser's state: gradients, activations, logits, buffers of the kernels."
)


def peaks(loops: Mapping[str, Callable[[Setting], Loop]], setting: Setting, title: str) -> dict[str, float]:
    """The MiB of each loop's steps; none where it cannot be measured.

    Raises:
        MemoryError: as for :func:`peak_mib`.
    """
    if not available():
        return {}
    return {name: peak_mib(loops[name], setting) for name in shown(list(loops), title)}


def cells(peaks: Mapping[str, float], name: str, reference: str) -> list[str]:
    """A loop's peak in MiB and in percent of the reference's, as a table shows them."""
    if not peaks:
        return [NONE, NONE]
    return [f"{peaks[name]:,.0f}", f"{100 * peaks[name] / peaks[reference]:.0f}"]


def peak_mib(loop: Callable[[Setting], Loop], setting: Setting) -> float:
    """The MiB of a loop's steps over the setting's samples, in a fresh process.

    Raises:
        MemoryError: the process was killed, as Linux does where memory runs out.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(_peak_mib, loop, setting).result()
        except BrokenProcessPool as error:
            raise MemoryError(f"{loop} was killed: most likely out of memory") from error


def _peak_mib(make: Callable[[Setting], Loop], setting: Setting) -> float:
    setting.seed()
    loop = make(setting)
    warm_up(loop, setting.samples)
    loop.net.zero_grad()
    gc.collect()
    measure = _cuda_mib if torch.cuda.is_available() else resident_mib
    # Twice: where gradients are kept into the next step's forward pass, they count.
    return measure(lambda: warm_up(loop, [*setting.samples, *setting.samples]))


def _cuda_mib(work: Callable[[], object]) -> float:
    torch.cuda.synchronize()
    rest = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    work()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - rest) / 2**20


def resident_mib(work: Callable[[], object]) -> float:
    """MiB that become resident at most during some work, beyond what is before it: Linux."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # freed memory that the allocator has kept would count as at rest
    Path("/proc/self/clear_refs").write_text("5")  # begins the high-water mark anew
    rest = _status("VmRSS")
    work()
    return (_status("VmHWM") - rest) / 2**10


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def available() -> bool:
    """Whether memory can be measured here: on a GPU, and on Linux."""
    return torch.cuda.is_available() or sys.platform == "linux"
