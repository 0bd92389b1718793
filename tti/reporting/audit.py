"""The gaming audits of all runs: metrics that moved although the networks' functions did not change."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tti.markdown import escaped
from tti.reporting.cells import Cell, Found, Rows
from tti.reporting.given import Key

Audits = Mapping[Key, Mapping[str, float]]
MOVED = "/moved"


@dataclass(frozen=True)
class Movement:
    """One metric under one change: the number of audited runs in which it moved, and its largest relative change."""

    moved: int
    runs: int
    share: float


def movements(audits: Audits) -> dict[str, dict[str, Movement]]:
    """Metric (``<part>/<name>/<kind>``) -> change -> movement.

    Args:
        audits: the audit's metrics by run: ``<change>/<metric>/before``, ``after``, ``moved``. Changes that do not
            apply to a network are absent.
    """
    flags: dict[tuple[str, str], list[float]] = {}
    shares: dict[tuple[str, str], list[float]] = {}
    for audit in audits.values():
        for name, flag in audit.items():
            if name.endswith(MOVED):
                change, _, metric = name.removesuffix(MOVED).partition("/")
                before, after = (audit[f"{change}/{metric}/{when}"] for when in ("before", "after"))
                flags.setdefault((metric, change), []).append(flag)
                shares.setdefault((metric, change), []).append((after - before) / abs(before) if before else np.nan)
    found: dict[str, dict[str, Movement]] = {}
    for (metric, change), values in flags.items():
        known = [share for share in shares[metric, change] if np.isfinite(share)]
        share = float(max(known, key=abs)) if known else np.nan
        found.setdefault(metric, {})[change] = Movement(sum(map(bool, values)), len(values), share)
    return found


def display_only(found: Mapping[str, Mapping[str, Movement]]) -> set[str]:
    """Metrics that moved under any change in any run: they may be displayed but must not decide."""
    return {metric for metric, changes in found.items() if any(each.moved for each in changes.values())}


def finding(audits: Audits, compared: Mapping[str, str]) -> list[Found]:
    """The table of metrics that moved; empty if no run was audited.

    Args:
        audits: the audits of the runs.
        compared: audited metric -> label, for the metrics of the report; those that did not move are listed.
    """
    found = movements(audits)
    if not found:
        return []
    changes = list(dict.fromkeys(change for each in found.values() for change in each))
    moving = display_only(found)
    rows = [
        [Cell(metric, kind="name text"), *[_cell(found[metric].get(change)) for change in changes]]
        for metric in sorted(moving)
    ] or [[Cell("none moved")] + [Cell("")] * len(changes)]
    steady = set(found) - moving
    known = ", ".join(escaped(label) for metric, label in compared.items() if metric in steady)
    notes = [
        f"The weights of {len(audits)} trained networks were changed in ways that leave every logit unchanged "
        "(checked in double precision). A metric that nevertheless moves by more than 1 % measures, in part, how the "
        "weights are written down: it is **display only** (‡ in the tables). The table shows in how many of the runs "
        "to which the change applies the metric moved, and by how much at most.",
        f"{len(steady)} of {len(found)} metrics moved in no run" + (f", among them: {known}." if known else "."),
    ]
    heading = [f"{change.replace('_', ' ')} ({_runs(found, change)})" for change in changes]
    return [
        Found("Gaming audit", notes, Rows(["metric, mean over layers", *heading], rows, sortable=False), folded=True)
    ]


def _runs(found: Mapping[str, Mapping[str, Movement]], change: str) -> str:
    runs = max(each[change].runs for each in found.values() if change in each)
    return f"{runs} run{'s' if runs != 1 else ''}"


def _cell(movement: Movement | None) -> Cell:
    if movement is None or not movement.moved:
        return Cell("–" if movement is None else "steady")
    share = "" if np.isnan(movement.share) else f", {movement.share:+.0%}"
    return Cell(f"{movement.moved} of {movement.runs}{share}", kind="bad")
