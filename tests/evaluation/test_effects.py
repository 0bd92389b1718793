"""Direct effects on logits equal a derivative; sites without direct effects are reported as such."""

import pytest
import torch

from tests.evaluation.planted import made, run
from tti.evaluation.effects import written_by


@pytest.fixture(scope="module")
def net(make_net, few_stories):
    return make_net(vocab_size=few_stories.packed.manifest["vocab_size"], context=256)


def test_promoted_tokens_are_those_of_the_direction(config, net, few_stories):
    with torch.no_grad():
        net.ln_final.weight.uniform_(0.5, 2)
    result = run(made(config, "effects", top=4), net, few_stories)
    head, gain, out = (
        weight.detach().double() for weight in (net.embed.weight, net.ln_final.weight, net.blocks[1].mlp.out.weight)
    )
    direction = out[:, 5]
    logits = head @ ((direction - direction.mean()) * gain)
    logits -= logits.mean()
    site = "blocks.1.mlp.post"
    assert result.arrays[f"{site}/promoted"].values[5].tolist() == logits.topk(4).indices.tolist()
    assert result.arrays[f"{site}/suppressed"].values[5].tolist() == (-logits).topk(4).indices.tolist()
    assert result.arrays[f"{site}/promoted_logit"].values[5] == pytest.approx(logits.topk(4).values.numpy(), rel=1e-4)
    assert result.arrays[f"{site}/neuron/output_norm"].values[5] == pytest.approx(direction.norm().item(), rel=1e-5)


def test_rows_of_the_head_without_a_token_are_in_no_list_and_in_no_figure(config, make_net, few_stories):
    size = few_stories.packed.manifest["vocab_size"]
    padded = make_net(vocab_size=size + 60, context=256)
    plain = make_net(vocab_size=size, context=256)
    with torch.no_grad():
        padded.embed.weight[size:] *= 50  # otherwise they would lead every list
        for name, weight in plain.named_parameters():
            weight.copy_(padded.get_parameter(name)[: len(weight)])
    found, expected = (run(made(config, "effects", top=4), net, few_stories) for net in (padded, plain))
    assert found.metrics == pytest.approx(expected.metrics, nan_ok=True)
    for key in ("blocks.0.mlp.post/promoted", "blocks.1.mlp_out/suppressed"):
        assert (found.arrays[key].values == expected.arrays[key].values).all()
        assert found.arrays[key].values.max() < size


def test_a_site_that_writes_nothing_is_refused(net):
    with pytest.raises(ValueError, match=r"attn\.q does not write into the residual stream"):
        written_by(net, "blocks.0.attn.q")
    assert (written_by(net, "blocks.0.resid_post") == torch.eye(16)).all()
