"""``table=profile``: where the time of a step goes, by part of the network and by operation.

Hooks on the modules name the parts in the forward pass. An operation of the backward pass counts towards the part
whose operation it differentiates; PyTorch's profiler links the two by a sequence number.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from tti.benchmarking.clocks import Clock
from tti.benchmarking.loop import Loop, part, warm_up
from tti.benchmarking.progress import shown
from tti.benchmarking.section import Section
from tti.benchmarking.setting import Setting
from tti.benchmarking.transformer import Transformer
from tti.models.network import Network

# Parts by the names of modules, in this project's network and in the plain one; the innermost counts.
MODULES = {
    r".*\battn": "attention",
    r".*\bmlp": "MLP",
    r".*\bblocks\.\d+": "LayerNorm, dropout, residual",
    r"regularizers\.\w+": "regularizers",
}
HEAD = "head, cross-entropy"
OTHER = "other"
LABEL = "part: "
BACKWARD = "autograd::engine::evaluate_function"


class Profile:
    """The profile of each loop's steps.

    Args:
        loops: name -> function that makes a loop from a setting; uncompiled, since compiled code has no modules.
        top: number of operations listed.
    """

    def __init__(self, loops: Mapping[str, Callable[[Setting], Loop]], top: int) -> None:
        self.loops, self.top = dict(loops), top

    def __call__(self, setting: Setting, clock: Clock) -> Iterator[Section]:
        """Yield a table of the parts, and one of the operations of each loop."""
        setting.seed()
        events = {
            name: profiled(self.loops[name](setting), setting) for name in shown(list(self.loops), "Profile: loops")
        }
        steps = len(setting.samples)
        parts = {name: by_part(each) for name, each in events.items()}
        rows = [
            [each, *_cells((times.get(each, 0.0) / steps, sum(times.values()) / steps) for times in parts.values())]
            for each in sorted(
                set().union(*parts.values()), key=lambda name: -sum(t.get(name, 0.0) for t in parts.values())
            )
        ]
        totals = [sum(times.values()) / steps for times in parts.values()]
        rows.append(["all", *_cells(zip(totals, totals, strict=True))])
        header = ["part", *(column for name in parts for column in (f"{name}, ms", "%"))]
        device = "GPU" if torch.cuda.is_available() else "CPU"
        notes = (
            f"{device} time of the operations themselves, forward and backward; mean of {steps} uncompiled steps.",
            "Hooks on modules name the parts; an operation of the backward pass belongs to the part that it "
            f"differentiates. The rest (embedding, sums of gradients, bookkeeping) is `{OTHER}`.",
        )
        yield Section("Where a step's time goes", header, rows, notes)
        for name, each in events.items():
            times = by_operation(each)
            longest = sorted(times, key=lambda name: -times[name])[: self.top]
            total = sum(times.values()) / steps
            rows = [[f"`{operation}`", *_cells([(times[operation] / steps, total)])] for operation in longest]
            yield Section(f"Operations of `{name}`", ["operation", "ms", "%"], rows)


def profiled(loop: Loop, setting: Setting) -> list[Any]:
    """The profiler's events for one step on every sample."""
    name_parts(loop.net)
    warm_up(loop, setting.samples)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
    with profile(activities=activities) as profiler:
        warm_up(loop, setting.samples)
    return list(profiler.events() or ())


def name_parts(net: nn.Module) -> None:
    """Make the forward pass of ``net`` name its parts for the profiler."""
    for name, module in net.named_modules():
        known = next((each for pattern, each in MODULES.items() if re.fullmatch(pattern, name)), None)
        if known:
            _name(module, known)
        if isinstance(module, Network | Transformer):
            module.loss = part(HEAD)(module.loss)  # type: ignore[method-assign]


def _name(module: nn.Module, name: str) -> None:
    module.forward = part(name)(module.forward)


def by_part(events: Iterable[Any]) -> dict[str, float]:
    """Milliseconds by part."""
    events = sorted(events, key=lambda event: event.time_range.start)
    forward = {
        event.sequence_nr: _label(event) for event in events if event.sequence_nr >= 0 and not _backward(event)
    }  # where operations share a number, the last one is differentiated
    times: defaultdict[str, float] = defaultdict(float)
    for event in events:
        backward = _backward(event)
        part_of_it = forward.get(backward.sequence_nr, OTHER) if backward else _label(event)
        times[part_of_it] += _milliseconds(event)
    return dict(times)


def by_operation(events: Iterable[Any]) -> dict[str, float]:
    """Milliseconds by operation."""
    times: defaultdict[str, float] = defaultdict(float)
    for event in events:
        times[event.name] += _milliseconds(event)
    return dict(times)


def _milliseconds(event: Any) -> float:
    return (event.self_device_time_total if torch.cuda.is_available() else event.self_cpu_time_total) / 1e3


def _ancestors(event: Any) -> Iterator[Any]:
    while event is not None:
        yield event
        event = event.cpu_parent


def _backward(event: Any) -> Any:
    """The node of the backward pass that an event belongs to, if any."""
    return next((each for each in _ancestors(event) if each.name.startswith(BACKWARD)), None)


def _label(event: Any) -> str:
    label = next((each.name for each in _ancestors(event) if each.name.startswith(LABEL)), f"{LABEL}{OTHER}")
    return str(label.removeprefix(LABEL))


def _cells(times: Iterable[tuple[float, float]]) -> list[str]:
    return [cell for time, total in times for cell in (f"{time:,.1f}", f"{100 * time / total:.0f}")]
