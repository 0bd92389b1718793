"""Where transformers, nnsight, TransformerLens and SAELens find the sites of an exported model."""

import re
from dataclasses import dataclass

# Site within a block -> its TransformerLens hook, and where transformers and nnsight find it. Query, key and value are
# thirds of one output.
BLOCK = {
    "resid_pre": ("hook_resid_pre", "", "input"),
    "ln1.normalized": ("ln1.hook_out", "ln_1", "output"),
    "attn.q": ("attn.hook_q", "attn.c_attn", "output, first third"),
    "attn.k": ("attn.hook_k", "attn.c_attn", "output, second third"),
    "attn.v": ("attn.hook_v", "attn.c_attn", "output, last third"),
    "attn.z": ("attn.hook_z", "attn.c_proj", "input"),
    "attn_out": ("hook_attn_out", "attn.c_proj", "output"),
    "resid_mid": ("hook_resid_mid", "ln_2", "input"),
    "ln2.normalized": ("ln2.hook_out", "ln_2", "output"),
    "mlp.pre": ("mlp.hook_pre", "mlp.c_fc", "output"),
    "mlp.post": ("mlp.hook_post", "mlp.act", "output"),
    "mlp_out": ("hook_mlp_out", "mlp", "output"),
    "resid_post": ("hook_resid_post", "", "output"),
}
WHOLE = {
    "embed": ("hook_embed", "transformer.wte", "output"),
    "pos_embed": ("hook_pos_embed", "transformer.wpe", "output"),
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
