"""The results of one pass equal a slow float64 reference that stores everything and loops over neurons."""

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from tests.evaluation.planted import made, run
from tti.models.taps import Recorder

SITES = ["blocks.*.mlp.post", "blocks.*.mlp_out"]


@pytest.fixture(scope="module", params=["dense", "topk"])
def net(request, make_net, few_stories):
    size = few_stories.packed.manifest["vocab_size"]
    net = make_net(f"model/mlp={request.param}", vocab_size=size, context=256)
    with torch.no_grad():
        for weight in net.parameters():  # so that activations are not all rounded to 0
            weight.mul_(3)
    return net


@pytest.fixture(scope="module")
def everything(net, few_stories):
    """All activations by site, and all types, positions and losses, story by story."""
    acts: dict[str, list] = {site: [] for site in net.sites if "mlp.post" in site or site.endswith("mlp_out")}
    kept: dict[str, list] = {"types": [], "places": [], "story": [], "nll": [], "position": [], "bytes": []}
    for chunk in few_stories:
        recorder = Recorder(acts)
        with torch.no_grad():
            hidden = net(chunk.batch.tokens, chunk.batch.stories, recorder)
            kept["nll"].append(net.loss(hidden, chunk.batch.targets)[1])
        for site, each in acts.items():
            each.append(recorder.activations[site])
        kept["types"].append(chunk.batch.types)
        kept["places"].append(chunk.places)
        kept["story"].append(chunk.stories[chunk.story])
    joined = {site: torch.cat(each).double().numpy() for site, each in acts.items()}
    return joined, {name: torch.cat(each).numpy() for name, each in kept.items() if each}


def test_all_tokens_are_seen_once(few_stories, everything):
    places = everything[1]["places"]
    starts, lengths = few_stories.packed.offsets[:-1], few_stories.lengths
    expected = np.concatenate([np.arange(start, start + n) for start, n in zip(starts, lengths, strict=True)])
    assert (np.sort(places) == np.sort(expected)).all()


def test_performance(config, net, few_stories, everything):
    result = run(made(config, "performance"), net, few_stories)
    nll, story = everything[1]["nll"].astype(float), everything[1]["story"]
    assert result.metrics["loss"] == pytest.approx(nll.mean(), rel=1e-6)
    assert result.metrics["loss_low"] < result.metrics["loss"] < result.metrics["loss_high"]
    assert result.arrays["story/nll"].values[3] == pytest.approx(nll[story == 3].sum(), rel=1e-6)
    # The seed project drops the last position of a story, which predicts its end.
    last = np.append(story[1:] != story[:-1], True)
    assert result.metrics["original/loss"] == pytest.approx(nll[~last].mean(), rel=1e-6)
    assert result.metrics["original/tokens"] == (~last).sum()
    assert result.arrays["position/tokens"].values.sum() == len(nll)


def test_bits_per_byte_counts_the_bytes_of_scored_tokens(config, net, few_stories):
    result = run(made(config, "performance"), net, few_stories)
    packed = few_stories.packed
    text = packed.tokenizer().decode(packed.tokens[packed.offsets[0] + 1 : packed.offsets[1] - 1].tolist())
    assert result.arrays["story/bytes"].values[0] == len(text.encode())


def test_geometry(config, net, few_stories, everything):
    result = run(made(config, "geometry"), net, few_stories)
    for site, acts in everything[0].items():
        norms = np.linalg.norm(acts, axis=0)
        cosine = (acts.T @ acts) / np.outer(norms, norms).clip(1e-300)
        off = ~np.eye(len(cosine), dtype=bool)
        kind, layer = site.split(".", 2)[2], site.split(".")[1]
        here = f"{kind}/layer_{layer}"
        assert result.metrics[f"mean_abs_cosine/{here}"] == pytest.approx(np.abs(cosine[off]).mean(), rel=1e-5)
        covariance = np.cov(acts.T)
        ratio = np.trace(covariance) ** 2 / (covariance**2).sum()
        assert result.metrics[f"participation_ratio/{here}"] == pytest.approx(ratio, rel=1e-4)
        with np.errstate(invalid="ignore"):
            squared = np.nan_to_num(np.corrcoef(acts.T))[off] ** 2
        assert result.metrics[f"mean_squared_correlation/{here}"] == pytest.approx(squared.mean(), rel=1e-4)
        eigenvalues = result.arrays[f"{site}/eigenvalues"].values
        assert eigenvalues.sum() == pytest.approx(np.trace(covariance), rel=1e-3)


def test_samples_are_the_same_tokens_for_every_part_and_run(config, net, few_stories, everything):
    result = run(made(config, "geometry", sample_tokens=50), net, few_stories)
    places = result.arrays["sample/place"].values
    rows = [int(np.flatnonzero(everything[1]["places"] == place)[0]) for place in places]
    for site, acts in everything[0].items():
        assert result.arrays[f"{site}/sample"].values == pytest.approx(acts[rows], rel=2e-3, abs=1e-5)


def test_utilisation(config, net, few_stories, everything):
    result = run(made(config, "utilisation"), net, few_stories)
    for site, acts in everything[0].items():
        table = {name: result.arrays[f"{site}/neuron/{name}"].values for name in ("mean", "std", "min", "max", "rms")}
        assert table["mean"] == pytest.approx(acts.mean(0), rel=1e-4, abs=1e-6)
        assert table["std"] == pytest.approx(acts.std(0), rel=1e-4, abs=1e-6)
        assert table["rms"] == pytest.approx(np.sqrt((acts**2).mean(0)), rel=1e-4)
        assert (table["min"] == acts.min(0).astype(np.float32)).all()
        assert (table["max"] == acts.max(0).astype(np.float32)).all()
        assert result.arrays[f"{site}/neuron/firing_rate"].values == pytest.approx((np.abs(acts) >= 0.01).mean(0))


def test_type_entropies(config, net, few_stories, everything):
    result = run(made(config, "selectivity"), net, few_stories)
    types = everything[1]["types"]
    for site, acts in everything[0].items():
        for neuron in range(0, acts.shape[1], 7):
            mass = np.bincount(types, np.abs(acts[:, neuron]))
            expected = entropy(mass) if mass.sum() else np.nan
            found = result.arrays[f"{site}/neuron/type_entropy"].values[neuron]
            assert found == pytest.approx(expected, abs=1e-4, nan_ok=True)


def test_top_contexts_are_exact(config, net, few_stories, everything):
    result = run(made(config, "contexts", k=7), net, few_stories)
    places, story = everything[1]["places"], everything[1]["story"]
    row_of = {int(place): row for row, place in enumerate(places)}
    for site, acts in everything[0].items():
        values = result.arrays[f"{site}/top_activation"].values
        where = result.arrays[f"{site}/top_place"].values
        window = result.arrays[f"{site}/top_window"].values
        for neuron in range(acts.shape[1]):
            column = acts[:, neuron]
            expected = np.sort(column[column != 0])[::-1][:7]
            assert values[neuron, : len(expected)] == pytest.approx(expected, rel=1e-5)
            assert (where[neuron, len(expected) :] == -1).all()
            for rank in range(len(expected)):
                row = row_of[int(where[neuron, rank])]
                assert column[row] == pytest.approx(values[neuron, rank], rel=1e-6)
                around = row + np.arange(-20, 9)
                inside = (around >= 0) & (around < len(column))
                inside[inside] &= story[around[inside]] == story[row]
                assert (np.isnan(window[neuron, rank]) == ~inside).all()
                assert window[neuron, rank][inside] == pytest.approx(column[around[inside]], rel=2e-3, abs=1e-5)


def test_bottom_contexts_are_the_lowest(config, net, few_stories, everything):
    result = run(made(config, "contexts", k=5), net, few_stories)
    assert "blocks.0.mlp.post/bottom_place" not in result.arrays
    acts = everything[0]["blocks.0.mlp_out"]
    assert result.arrays["blocks.0.mlp_out/bottom_activation"].values == pytest.approx(np.sort(acts, 0)[:5].T, rel=1e-5)


def test_deciles_are_of_all_tokens_where_all_are_drawn(config, net, few_stories, everything):
    result = run(made(config, "contexts", decile_tokens=10**9, per_decile=3), net, few_stories)
    acts = everything[0]["blocks.1.mlp_out"]
    values = result.arrays["blocks.1.mlp_out/decile_activation"].values
    bounds = np.quantile(acts, np.arange(11) / 10, axis=0).T
    assert values.shape == (acts.shape[1], 10, 3)
    assert (values >= bounds[:, :-1, None] - 1e-3).all()
    assert (values <= bounds[:, 1:, None] + 1e-3).all()


def test_the_size_of_chunks_changes_nothing(config, net, few_stories):
    whole = few_stories.subset(10**9)
    whole.tokens_per_chunk = 10**9
    assert len(whole) <= 2 < len(few_stories)
    for name in ("performance", "geometry", "utilisation"):
        parts, one = (run(made(config, name), net, stories).metrics for stories in (few_stories, whole))
        assert parts.keys() == one.keys()
        for metric, value in parts.items():
            assert value == pytest.approx(one[metric], rel=1e-4, abs=1e-6, nan_ok=True), metric


def test_rare_types_share_a_row(config, net, few_stories, everything):
    result = run(made(config, "selectivity", max_types=20), net, few_stories)
    counts = np.sort(np.bincount(everything[1]["types"]))[::-1]
    assert result.metrics["pooled"] == pytest.approx(counts[19:].sum() / counts.sum(), abs=0.02)
    assert (result.arrays["blocks.0.mlp_out/neuron/type_entropy"].values <= np.log(20) + 1e-6).all()
