import pytest

from tti.benchmarking import clocks
from tti.benchmarking.variants import Variants, variants_of


def test_the_variants_are_those_of_the_experiment():
    variants = variants_of("expt5")
    assert variants["baseline"] == []
    assert variants["overcomplete"] == ["model/mlp=overcomplete"]


def test_the_reference_costs_nothing_beside_itself(setting, monkeypatch):
    few = {"baseline": [], "online": ["regularizer=online_sae"], "wide": ["model/mlp=overcomplete"]}
    monkeypatch.setattr("tti.benchmarking.variants.variants_of", lambda _: few)
    table = Variants("expt5", "baseline", rounds=2, with_memory=False)
    (section,) = table(setting, clocks.cpu)
    rows = {row[0]: row for row in section.rows}
    assert rows["`baseline`"][3] == "+0.0 [+0.0, +0.0]"
    assert float(rows["`online`"][3].split()[0]) > 0
    assert len(section.header) == len(section.rows[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("expt9", "baseline"), "no experiment 'expt9'; there are: .*expt5"),
        (("expt5", "basline"), "no variant 'basline'; it has: baseline, "),
    ],
)
def test_what_is_not_there_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        Variants(*arguments, rounds=1, with_memory=False)
