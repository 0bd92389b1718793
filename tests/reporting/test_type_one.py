"""False verdicts of the report where there is no effect: the script's simulation, scaled down."""

import importlib.util
import math
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "type_one_error.py"
FEW = 150
BOUND = 0.05 + 3.5 * math.sqrt(0.05 * 0.95 / FEW)  # exceeded about once in thousands of draws if the rate is 5 %


@pytest.fixture(scope="module")
def simulation():
    spec = importlib.util.spec_from_file_location("type_one_error", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_equal_variants_are_called_different_no_more_often_than_the_level(simulation):
    found = simulation.rates(FEW, 3, 0.0)
    assert found["gained"] + found["lost"] < BOUND
    assert found["costs"] + found["lowers it"] < BOUND


@pytest.mark.slow
def test_variants_at_the_margin_are_called_free_no_more_often_than_the_level(simulation):
    assert simulation.rates(FEW, 3, 1.0)["free"] < BOUND
