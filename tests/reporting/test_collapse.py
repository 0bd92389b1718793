"""Whether a code has collapsed, with known answers."""

import pandas as pd

from tti.reporting.collapse import collapsed, unused, without

LEAST = 0.05
CONTROLS = {"kl": "baseline", "other": "baseline"}


def by_seed(**rows):
    cells = {(variant, seed): value for variant, row in rows.items() for seed, value in enumerate(row, start=1)}
    return pd.Series(list(cells.values()), index=pd.MultiIndex.from_tuples(list(cells), names=["variant", "seed"]))


def figures(active, gaps):
    own = by_seed(**{variant: [1.0] * len(row) for variant, row in gaps.items()})
    return {"disentanglement/active_units": by_seed(**active), "disentanglement/loss": own,
            "disentanglement/loss_shuffled": own + by_seed(**gaps)}  # fmt: skip


def test_a_code_without_an_active_latent_has_collapsed_however_much_the_decoder_reads_it():
    found = collapsed(figures({"baseline": [5, 5], "kl": [3, 0]}, {"baseline": [2, 2], "kl": [2, 2]}), CONTROLS, LEAST)
    assert found == {"kl": "collapsed in 1 of 2 seeds"}


def test_a_code_that_the_decoder_does_without_has_collapsed_however_active_it_is():
    active = {"baseline": [5, 5], "kl": [32, 32], "other": [32, 32]}
    gaps = {"baseline": [1.5, 2.5], "kl": [0.09, 0.11], "other": [0.11, 0.11]}  # 5 % of 2.0 is 0.1
    assert collapsed(figures(active, gaps), CONTROLS, LEAST) == {"kl": "collapsed in 1 of 2 seeds"}


def test_both_rules_count_a_seed_once():
    found = collapsed(figures({"baseline": [5, 5], "kl": [0, 0]}, {"baseline": [2, 2], "kl": [0, 1]}), CONTROLS, LEAST)
    assert found == {"kl": "collapsed in 2 of 2 seeds"}


def test_a_gap_is_compared_with_the_mean_of_the_control_also_where_that_lacks_the_seed():
    assert unused(by_seed(baseline=[2.0], kl=[1.0, 0.1]), CONTROLS, LEAST).tolist() == [False, False, True]


def test_the_baseline_is_its_own_control_and_has_collapsed_without_a_gap():
    assert unused(by_seed(baseline=[0.0, 0.0]), {}, LEAST).tolist() == [True, True]
    assert unused(by_seed(baseline=[-0.01, -0.01]), {}, LEAST).tolist() == [True, True]
    assert unused(by_seed(baseline=[1e-3, 2e-3]), {}, LEAST).tolist() == [False, False]


def test_runs_without_codes_have_not_collapsed():
    assert collapsed({"val/loss": by_seed(baseline=[1.0])}, {}, LEAST) == {}


def test_a_collapsed_code_keeps_what_it_costs_and_loses_its_scores():
    stay = {"disentanglement/kl": 0.1, "disentanglement/loss_shuffled": 1.0, "val/loss": 1.0}
    scores = {f"disentanglement/{name}": 0.2 for name in ("mig", "mig_rank_of_ceiling", "rotated/sap", "specificity")}
    rows = [{"variant": variant, **stay, **scores} for variant in "ab"]
    assert without(rows, {"b": ""}) == [rows[0], {"variant": "b", **stay}]
