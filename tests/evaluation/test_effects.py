"""Direct effects on logits equal a derivative; sites without any say so."""

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


def test_a_site_that_writes_nothing_is_refused(net):
    with pytest.raises(ValueError, match=r"attn\.q does not write into the residual stream"):
        written_by(net, "blocks.0.attn.q")
    assert (written_by(net, "blocks.0.resid_post") == torch.eye(16)).all()
