"""All tables of a report after the first, in reading order."""

from dataclasses import replace

from tti.reporting import (
    aggregate,
    concepts,
    disentanglement,
    findings,
    modularity,
    plan,
    robustness,
    tasks,
    transfer,
    tuning,
)
from tti.reporting.analysis import Analysis
from tti.reporting.cells import Found


def tables(analysis: Analysis) -> list[Found]:
    """The tables for which the runs have figures; collapsed variants are marked."""
    found = [
        *([findings.gained(analysis), findings.costs(analysis), *plan.finding(analysis)] if analysis.controls else []),
        *aggregate.finding(analysis),
        *tasks.finding(analysis),
        *modularity.finding(analysis),
        *disentanglement.finding(analysis),
        *transfer.finding(analysis),
        *concepts.finding(analysis),
        *robustness.finding(analysis),
        *findings.counting(analysis),
        *tuning.finding(analysis.selection),
        findings.results(analysis),
        *findings.controls(analysis),
        *findings.changes("Change, paired by seed", [findings.CHANGES], analysis, analysis.changes),
        *findings.changes("Change at matched loss", [findings.MATCHED], analysis, analysis.matched),
        *findings.fronts(analysis),
        *findings.alike(analysis),
        *findings.audits(analysis),
    ]
    return [replace(each, table=each.table.marked(analysis.collapsed)) for each in found]
