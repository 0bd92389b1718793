"""Where sites are found in other tools' models: those of an export, and those of decoders of transformers."""

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


@dataclass(frozen=True)
class Family:
    """The names of a transformers decoder's modules, within its base model and within a block.

    Attributes:
        embed, blocks, ln_final: within the base model.
        ln1, attn_out: before attention, and the matrix with which attention writes.
        ln2, mlp_in, mlp_out: before the MLP; the matrix before its non-linearity (of a gated MLP, the gate's); the
            matrix with which it writes.
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
        """Site -> module and side (``input``, ``output``), of those at which a network can go on with another value.

        ``resid_mid`` is none: what enters the second norm is not what the residual stream goes on with.
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
# model_type of a config.json -> its modules.
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
