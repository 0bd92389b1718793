"""Where transformers, nnsight, TransformerLens and SAELens find the sites of an exported model."""

import re
from dataclasses import dataclass

# Site within a block -> its hook, and where transformers and nnsight find it. Query, key and value are thirds of one
# output. Hooks have TransformerBridge's own names. Its aliases (`hook_mlp_out`) are not for interventions: SAELens'
# bridge, a subclass, ignores them without a word.
BLOCK = {
    "resid_pre": ("hook_in", "", "input"),
    "ln1.normalized": ("ln1.hook_out", "ln_1", "output"),
    "attn.q": ("attn.q.hook_out", "attn.c_attn", "output, first third"),
    "attn.k": ("attn.k.hook_out", "attn.c_attn", "output, second third"),
    "attn.v": ("attn.v.hook_out", "attn.c_attn", "output, last third"),
    "attn.z": ("attn.o.hook_in", "attn.c_proj", "input"),
    "attn_out": ("attn.hook_out", "attn.c_proj", "output"),
    "resid_mid": ("ln2.hook_in", "ln_2", "input"),
    "ln2.normalized": ("ln2.hook_out", "ln_2", "output"),
    "mlp.pre": ("mlp.in.hook_out", "mlp.c_fc", "output"),
    "mlp.post": ("mlp.out.hook_in", "mlp.act", "output"),
    "mlp_out": ("mlp.hook_out", "mlp", "output"),
    "resid_post": ("hook_out", "", "output"),
}
WHOLE = {
    "embed": ("embed.hook_out", "transformer.wte", "output"),
    "pos_embed": ("pos_embed.hook_out", "transformer.wpe", "output"),
    "ln_final.normalized": ("ln_final.hook_out", "transformer.ln_f", "output"),
}


@dataclass(frozen=True)
class Place:
    """A site of an exported model in other tools.

    Attributes:
        hook: its TransformerLens name (of ``TransformerBridge``), which SAELens uses too; empty where it has none.
        module: the module of transformers and nnsight.
        side: which side of the module: ``input`` or ``output``.
    """

    hook: str
    module: str
    side: str


def place(site: str) -> Place:
    """Where a site is found; one that only an MLP of its own kind has is a module of that MLP, and no hook."""
    if site in WHOLE:
        return Place(*WHOLE[site])
    found = re.fullmatch(r"blocks\.(\d+)\.(.+)", site)
    assert found, site
    layer, name = found.groups()
    if name not in BLOCK:
        module = name.removeprefix("mlp.").replace(".", "_")
        return Place("", f"transformer.h.{layer}.mlp.sites.{module}", "output")
    hook, module, side = BLOCK[name]
    return Place(f"blocks.{layer}.{hook}", f"transformer.h.{layer}.{module}".rstrip("."), side)
