"""Sites in other tools: in exported models, and in transformers' decoders."""

import re
from dataclasses import dataclass

# Site within a block -> its hook, and its module in transformers and nnsight. Query, key and value are thirds of one
# output. Hooks have TransformerBridge's own names; its aliases (`hook_mlp_out`) do not support interventions, since
# SAELens' bridge, a subclass, silently ignores them.
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
        hook: its TransformerLens name (in ``TransformerBridge``), which SAELens uses too; empty if it has none.
        module: its module in transformers and nnsight.
        side: the side of the module, ``input`` or ``output``.
    """

    hook: str
    module: str
    side: str


def place(site: str, named: bool = True) -> Place:
    """The place of a site; a site specific to a kind of MLP is a module of that MLP, and has no hook.

    Args:
        site: name of the site.
        named: whether the MLPs have GPT-2's names; otherwise TransformerLens cannot open the model, and ``mlp.pre`` is
            a module of the MLP too.
    """
    if not named:
        module = re.sub(r"\.mlp\.c_fc$", ".mlp.sites.pre", place(site).module)
        return Place("", module, place(site).side)
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


@dataclass(frozen=True)
class Family:
    """The module names of a transformers decoder, within its base model and within a block.

    Attributes:
        embed, blocks, ln_final: within the base model.
        ln1, attn_out: the norm before attention, and attention's output matrix.
        ln2, mlp_in, mlp_out: the norm before the MLP, the matrix before its non-linearity (the gate's, in a gated MLP),
            and its output matrix.
    """

    embed: str
    blocks: str
    ln_final: str
    ln1: str
    attn_out: str
    ln2: str
    mlp_in: str
    mlp_out: str

    def places(self, layers: int) -> dict[str, tuple[str, str]]:
        """Site -> module and side (``input``, ``output``), for sites whose activation can be replaced.

        ``resid_mid`` is excluded: the input of the second norm is not what the residual stream continues with.
        """
        block = {
            "resid_pre": ("", "input"),
            "ln1.normalized": (self.ln1, "output"),
            "attn.z": (self.attn_out, "input"),
            "attn_out": (self.attn_out, "output"),
            "ln2.normalized": (self.ln2, "output"),
            "mlp.pre": (self.mlp_in, "output"),
            "mlp.post": (self.mlp_out, "input"),
            "mlp_out": (self.mlp_out, "output"),
            "resid_post": ("", "output"),
        }
        return {
            "embed": (self.embed, "output"),
            **{
                f"blocks.{i}.{site}": (f"{self.blocks}.{i}.{module}".rstrip("."), side)
                for i in range(layers)
                for site, (module, side) in block.items()
            },
            "ln_final.normalized": (self.ln_final, "output"),
        }


LLAMA = Family(
    *("embed_tokens", "layers", "norm"),
    *("input_layernorm", "self_attn.o_proj"),
    *("post_attention_layernorm", "mlp.gate_proj", "mlp.down_proj"),
)
# model_type in config.json -> its modules.
FAMILIES = {
    "gpt2": Family("wte", "h", "ln_f", "ln_1", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj"),
    "gpt_neo": Family("wte", "h", "ln_f", "ln_1", "attn.attention.out_proj", "ln_2", "mlp.c_fc", "mlp.c_proj"),
    "gpt_neox": Family(
        *("embed_in", "layers", "final_layer_norm"),
        *("input_layernorm", "attention.dense"),
        *("post_attention_layernorm", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h"),
    ),
    "llama": LLAMA,
    "mistral": LLAMA,
    "qwen2": LLAMA,
    "qwen3": LLAMA,
}
