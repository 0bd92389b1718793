"""The best variant of each method, chosen by a rule that is declared before the runs."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tti.configuration import METHOD, flat
from tti.reporting.analysis import Analysis
from tti.reporting.given import Given
from tti.reporting.pareto import front
from tti.reporting.selection import differences

FAIR = ("data.stories_per_step", "model.", "trainer.max_steps", "task.")  # besides which data
CONCLUSIVE = ("gained", "lost", "not shown")


@dataclass(frozen=True)
class Choice:
    """A method with the variant that was chosen, or None, and why."""

    method: str
    variant: str | None
    gain: float
    why: str


def choices(analysis: Analysis, budget: float, at_most: int) -> list[Choice]:
    """For each method, the variant of largest gain among those on its front that cost no more than the budget.

    The front is that of mean cost and mean gain over seeds, as in the report, among the method's own variants. Verdicts
    are not used: a few seeds decide little, and the chosen variants are tested on seeds of their own.

    Args:
        analysis: the runs to choose from.
        budget: largest cost, in the units of the loss.
        at_most: number of methods; the others, with the smallest gains, have no variant.

    Returns:
        All methods, those with the largest gains first.
    """
    found = [_best(analysis, variants, budget) for variants in analysis.sequences]
    ordered = sorted(found, key=lambda choice: (choice.variant is None, -choice.gain))
    rest = [Choice(c.method, None, c.gain, f"{c.why}; {at_most} methods gain more") if c.variant else c
            for c in ordered[at_most:]]  # fmt: skip
    return ordered[:at_most] + rest


def _best(analysis: Analysis, variants: Sequence[str], budget: float) -> Choice:
    method = str(analysis.hues[variants[0]].method)
    gains, costs = analysis.gains.loc[list(variants)], analysis.losses.loc[list(variants), "mean"]
    known = gains.index[gains["verdict"].isin(CONCLUSIVE)]
    if not len(known):
        return Choice(method, None, math.nan, f"its gain is unknown: {', '.join(sorted(set(gains['verdict'])))}")
    on_front = known[front(costs[known], gains.loc[known, "mean"])]
    cheap = [variant for variant in on_front if costs[variant] <= budget]
    if not cheap:
        least = min(known, key=lambda variant: costs[variant])
        return Choice(method, None, math.nan, f"it costs at least {costs[least]:+.4f} ({least})")
    best = max(cheap, key=lambda variant: gains.loc[variant, "mean"])
    gain, seeds = float(gains.loc[best, "mean"]), int(gains.loc[best, "n"])
    place = f"{len(on_front)} of {len(variants)} variants on the front"
    return Choice(method, best, gain, f"gain {gain:+.4f}, cost {costs[best]:+.4f}, {seeds} seeds; {place}")


def with_controls(analysis: Analysis, variants: Sequence[str]) -> list[str]:
    """These variants and their controls, controls first."""
    found: list[str] = []
    for variant in variants:
        chain = [variant]
        while (control := analysis.controls.get(chain[0])) is not None:
            chain.insert(0, control)
        found += chain
    return sorted(dict.fromkeys(found), key=lambda variant: variant in analysis.controls)


def runs_of(analysis: Analysis, variants: Sequence[str]) -> dict[str, Given]:
    """One run of each variant.

    Raises:
        ValueError: they differ in more than the method: in data, model, or length.
    """
    of = {analysis.selection.name(run.key): run for run in reversed(analysis.selection.finished)}
    runs = {variant: of[variant] for variant in variants}
    first = next(iter(runs))
    for variant, run in runs.items():
        if different := [*differences([runs[first], run]), *_different(flat(runs[first].config), flat(run.config))]:
            raise ValueError(
                f"{first} and {variant} differ in more than the method: {', '.join(different)}. Choose from runs with "
                "the same data, model and length (runs=...)"
            )
    return runs


def _different(one: Mapping[str, object], other: Mapping[str, object]) -> Iterator[str]:
    for key in sorted({*one, *other}):
        if key.startswith(FAIR) and not key.startswith(METHOD) and one.get(key) != other.get(key):
            yield f"{key} ({one.get(key)}, {other.get(key)})"
