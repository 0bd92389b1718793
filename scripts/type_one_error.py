"""Error rates of the whole report, by simulation: ``python scripts/type_one_error.py`` writes them into docs/report.md.

It simulates experiments of equal variants that are as large as experiment 2 (a baseline, four penalties and an
architecture at three strengths each, an architecture at one), with the spread of that experiment's runs. The report's
own functions compute the tests; the script counts how often an experiment gives *any* variant a verdict.
"""

import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from tti.markdown import table
from tti.reporting import gains, losses
from tti.reporting.gains import Declared
from tti.reporting.statistics import CONFIDENCE

BEGIN, END = "<!-- written by scripts/type_one_error.py -->", "<!-- end -->"
PAGE = Path(__file__).parents[1] / "docs" / "report.md"
PENALTIES = ("l1", "decoder_l1", "l0", "orthogonality")
ARCHITECTURES = ("topk",)
SEQUENCES = [*[[f"{m}_{i}" for i in range(3)] for m in (*PENALTIES, *ARCHITECTURES)], ["relu"]]
VARIANTS = [variant for sequence in SEQUENCES for variant in sequence]
PENALTY_SD, ARCHITECTURE_SD = 0.004, 0.012  # nats, of the paired change of the loss
SCORE_SD = 0.01  # of a score, and of that of its rotation
EXPERIMENTS = 1000


def margin(variant: str) -> float:
    """The margin of a variant in conf/report.yaml."""
    return 0.01 if variant.startswith(PENALTIES) else 0.03


def experiment(generator: np.random.Generator, seeds: int, shift: float) -> dict[str, bool]:
    """Whether any variant gets each verdict where all are ``shift`` margins above their control."""
    sd = {v: PENALTY_SD if v.startswith(PENALTIES) else ARCHITECTURE_SD for v in VARIANTS}
    base, index = generator.normal(3.5, 0.01, seeds), pd.MultiIndex.from_product(
        [["baseline", *VARIANTS], range(seeds)], names=["variant", "seed"])  # fmt: skip
    arms = [base, *(base + shift * margin(v) + generator.normal(0, sd[v], seeds) for v in VARIANTS)]
    controls = dict.fromkeys(VARIANTS, "baseline")
    cost = losses.changes(
        pd.Series(np.concatenate(arms), index), {v: margin(v) for v in VARIANTS}, controls, SEQUENCES, {}
    )
    score, rotated = ({"score": pd.Series(generator.normal(0.5, SCORE_SD, len(index)), index)} for _ in range(2))
    declared = dict.fromkeys(VARIANTS, Declared("score", "score", 1))
    gain = gains.gains(declared, score, rotated, controls, SEQUENCES, {})
    found = {*cost["verdict"], *gain["verdict"]}
    return {name: name in found for name in ("gained", "lost", "costs", "lowers it", "free")}


def rates(experiments: int, seeds: int, shift: float) -> dict[str, float]:
    """Share of experiments in which any variant gets each verdict."""
    generator = np.random.default_rng((seeds, round(shift)))
    return pd.DataFrame([experiment(generator, seeds, shift) for _ in range(experiments)]).mean().to_dict()


def written(experiments: int) -> str:
    """The table with its caption."""
    rows = []
    for shift, arms in ((0.0, "equal to their control"), (1.0, "a margin above it")):
        for seeds in (3, 6):
            found = rates(experiments, seeds, shift)
            rows.append([f"{arms}, {seeds} seeds", *[f"{found[name]:.1%}" for name in found]])
    error = 1.96 * np.sqrt(0.05 * 0.95 / experiments)
    note = (
        f"Share of {experiments:,} simulated experiments ({len(VARIANTS)} variants of {len(SEQUENCES)} methods) in "
        f"which *any* variant gets this verdict; a rate of 5 % has an error of ± {error:.1%} ({CONFIDENCE:.0%}). In "
        "the first two rows *free* is true and the rest false; in the last two *costs* is true, and *free*, "
        "*lowers it*, *gained* and *lost* are false."
    )
    return f"{note}\n\n{table(['variants', *found], rows)}"


def main() -> None:
    """Rewrite the table in docs/report.md."""
    text = written(int(sys.argv[1]) if len(sys.argv) > 1 else EXPERIMENTS)
    page = PAGE.read_text(encoding="utf-8")
    marked = re.escape(BEGIN) + ".*?" + re.escape(END)
    PAGE.write_text(re.sub(marked, lambda _: f"{BEGIN}\n{text}\n{END}", page, flags=re.S), encoding="utf-8")


if __name__ == "__main__":
    main()
