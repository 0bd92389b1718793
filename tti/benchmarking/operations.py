"""``table=operations``: the operations that a step dispatches, and those that wait for the device or for a shape.

PyTorch tags the operators whose result the host needs before it can continue: ``data_dependent_output`` (a number is
read from the device) and ``dynamic_output_shape`` (the size of the result depends on its values).
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tti.benchmarking.clocks import Clock
from tti.benchmarking.loop import Loop, warm_up
from tti.benchmarking.ours import Ours
from tti.benchmarking.regularizers import regularizers
from tti.benchmarking.section import Section
from tti.benchmarking.setting import Setting

HOST_READS = {Tensor.tolist, Tensor.numpy, Tensor.__array__}  # these read a CPU tensor without dispatching an operation


class Operations:
    """Operations of one step of each loop, and of our own with each regularizer.

    Args:
        loops: name -> function that makes a loop from a setting; uncompiled, since compiled code dispatches nothing.
        needs: regularizer -> overrides that it requires.
    """

    def __init__(self, loops: Mapping[str, Callable[[Setting], Loop]], needs: Mapping[str, list[str]]) -> None:
        self.loops, self.needs = loops, needs

    def __call__(self, setting: Setting, clock: Clock) -> Iterator[Section]:
        """Yield the table."""
        setting.seed()
        rows = [_row(name, make(setting), setting) for name, make in self.loops.items()]
        for name in regularizers():
            own = setting.having(*self.needs.get(name, ()), f"regularizer={name}", "task.compile=false")
            rows.append(_row(f"ours, `{name}`", Ours(own), own))
        header = ["step", "operations", "synchronizations", "data-dependent shapes", "which"]
        notes = (
            "Operations that PyTorch dispatches in one uncompiled step (forward, backward, clipping, optimizer).",
            "A synchronization reads a number on the host (`item`, `tolist`, a copy from a GPU, anything that PyTorch "
            "tags `data_dependent_output`). A data-dependent shape is anything that PyTorch tags "
            "`dynamic_output_shape`, such as `unique`, `nonzero`, or indexing by a mask.",
        )
        yield Section("Operations of a step", header, rows, notes)


def _row(name: str, loop: Loop, setting: Setting) -> list[str]:
    warm_up(loop, setting.samples)
    with Counted() as counted:
        loop.step(setting.samples[0])
    which = ", ".join(f"`{name}` {times}" for name, times in (counted.waits + counted.shapes).most_common())
    numbers = (counted.operations, counted.waits, counted.shapes)
    return [name, *(f"{counter.total():,}" for counter in numbers), which]


class Counted:
    """Context manager that counts the operations dispatched in it.

    Attributes:
        operations: all operations, by name.
        waits: those that read a number on the host.
        shapes: those whose result has a size that depends on values.
    """

    def __init__(self) -> None:
        self.operations: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()
        self.shapes: Counter[str] = Counter()
        self._modes = (_Dispatched(self), _Read(self))

    def __enter__(self) -> "Counted":
        for mode in self._modes:
            mode.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        for mode in reversed(self._modes):
            mode.__exit__(*error)


class _Dispatched(TorchDispatchMode):
    """Counts every operator, including those of the backward pass."""

    def __init__(self, counted: Counted) -> None:
        super().__init__()
        self.counted = counted

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().removeprefix("aten::")
        self.counted.operations[name] += 1
        result = func(*args, **(kwargs or {}))
        if torch.Tag.data_dependent_output in func.tags or _to_host(args, result):
            self.counted.waits[name] += 1
        if torch.Tag.dynamic_output_shape in func.tags and (not name.startswith("index.") or _masked(args)):
            self.counted.shapes[name] += 1
        return result


class _Read(TorchFunctionMode):
    """Counts direct reads of CPU tensors."""

    def __init__(self, counted: Counted) -> None:
        super().__init__()
        self.counted = counted

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in HOST_READS:
            self.counted.waits[func.__name__] += 1
        return func(*args, **(kwargs or {}))


def _to_host(args: Any, result: Any) -> bool:
    """Whether a tensor was copied from a device to the host."""
    there = any(isinstance(each, Tensor) and each.device.type != "cpu" for each in tree_leaves(args))
    return there and any(isinstance(each, Tensor) and each.device.type == "cpu" for each in tree_leaves(result))


def _masked(args: Any) -> bool:
    """Whether an index is a mask, for which the size of the result depends on its values."""
    return any(isinstance(each, Tensor) and each.dtype in (torch.bool, torch.uint8) for each in tree_leaves(args[1]))
