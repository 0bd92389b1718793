"""The cost of mixtures of experts, in turn with a dense layer."""

import pytest

from tti.benchmarking import clocks
from tti.benchmarking.mixtures import HEADER, Mixtures

MOE = ["model/mlp=moe", "model.mlp.experts=4"]


def test_the_reference_costs_as_much_as_itself_and_weights_are_counted(setting):
    (section,) = Mixtures({"dense": [], "moe": MOE}, "dense", rounds=2)(setting, clocks.cpu)
    rows = {row[0]: row for row in section.rows}
    assert rows["`dense`"][4] == rows["`dense`"][6] == "1.00 [1.00, 1.00]"
    assert len(HEADER) == len(rows["`moe`"])
    width = setting.config.model.d_model
    counts = [int(each.replace(",", "")) for each in rows["`moe`"][1:3]]
    assert counts == [8 * width**2 + 4 * width, 16 * width**2 + 4 * width]
    assert float(rows["`moe`"][4].split()[0]) > 0.1


def test_a_reference_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="no variant 'dence'; it has: dense"):
        Mixtures({"dense": []}, "dence", 1)
