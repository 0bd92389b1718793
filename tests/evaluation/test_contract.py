"""Properties of every configured part, whatever it measures."""

from pathlib import Path

import pytest

from tests.evaluation.planted import made, run
from tti.evaluation.base import Subject
from tti.evaluation_folder import NEURON, RANDOM_INIT, ROTATION, TRAINED

DOCS = Path(__file__).parents[2] / "docs" / "evaluation.md"
SMALL = {
    "causality": {"neurons": 3, "tokens": 100},
    "factor_probes": {"tokens": 500},
    "gaming": {"tokens": 300},
    "performance": {"resamples": 20},
    "robustness": {"tokens": 300},
    "probes": {"story_tokens": 800, "tokens": 500},
    "sae": {"tokens": 600, "measured_tokens": 300, "fit": {"batch": 64, "passes": 1}},
}


@pytest.mark.each_option("evaluation")
def test_every_part_is_configured_documented_and_keeps_to_the_schema(config, make_net, few_stories, option):
    assert option in config.evaluation
    assert f"| {option} |" in DOCS.read_text()
    net = make_net(vocab_size=few_stories.packed.manifest["vocab_size"], context=256)
    part = made(config, option, **SMALL.get(option, {}))
    assert set(config.evaluation[option].subjects) <= {TRAINED, RANDOM_INIT, ROTATION}
    if reason := part.inapplicable(Subject("trained", net, few_stories)):
        pytest.skip(reason)
    result = run(part, net, few_stories)
    assert len(result.metrics) > 0
    for key, array in result.arrays.items():
        site, neuron, _ = key.partition(NEURON)
        if neuron:
            assert array.dims == ("width",), key
            assert array.values.shape == (net.sites[site].width,), key
            assert array.values.dtype == "float32", key
    again = run(part, net, few_stories)
    assert again.metrics == pytest.approx(result.metrics, nan_ok=True)
