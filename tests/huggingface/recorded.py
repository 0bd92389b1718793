"""Activations of the same story: ours, and those of transformers' modules at the documented hook points."""

import torch

from tti.huggingface.names import place
from tti.models.stories import Separate
from tti.models.taps import Recorder

THIRDS = {"first": 0, "second": 1, "last": 2}


@torch.no_grad()
def recorded(net, story):
    """Logits, and activations by site."""
    recorder = Recorder(net.sites)
    return net.logits(net(story, Separate.of([len(story)]), recorder)), recorder.activations


@torch.no_grad()
def in_transformers(model, sites, story):
    found = {}

    def watch(site):
        where = place(site, model.config.to_dict().get("tti", {}).get("form") != "TTIFeedForward")
        side, _, third = where.side.partition(", ")

        def hook(module, arguments, keywords, output):
            value = output if side == "output" else (*arguments, *keywords.values())[0]
            value = value[0] if isinstance(value, tuple) else value
            found[site] = (value.chunk(3, -1)[THIRDS[third.split()[0]]] if third else value).squeeze(0)

        return model.get_submodule(where.module).register_forward_hook(hook, with_kwargs=True)

    handles = [watch(site) for site in sites]
    model(story[None])
    for handle in handles:
        handle.remove()
    return found
