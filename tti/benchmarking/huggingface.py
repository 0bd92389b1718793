"""Hugging Face's GPT-2, trained in bf16 on packed rows, as its users do."""

from omegaconf import DictConfig
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from tti.benchmarking.loop import Reference
from tti.benchmarking.sample import Sample
from tti.benchmarking.setting import Setting


class HuggingFace(Reference):
    """``GPT2LMHeadModel`` with SDPA and its own loss, uncompiled; fused AdamW, the default of its trainer."""

    def __init__(self, setting: Setting) -> None:
        setting = setting.having("trainer.precision=bf16-mixed")
        net = GPT2LMHeadModel(_sizes(setting.config.model))
        net.loss_type = "ForCausalLM"  # its fallback anyway, but without a warning
        super().__init__(setting, net, fused=True)

    def loss(self, sample: Sample) -> Tensor:
        targets = sample.packed_targets  # already shifted by one
        return self.net(sample.packed_tokens, labels=targets, shift_labels=targets, use_cache=False).loss

    def tokens(self, sample: Sample) -> int:
        return sample.packed_tokens.numel()


def _sizes(model: DictConfig) -> GPT2Config:
    return GPT2Config(  # SDPA is the default
        vocab_size=model.vocab_size,
        n_positions=model.context,
        n_embd=model.d_model,
        n_layer=model.n_layers,
        n_head=model.n_heads,
        n_inner=model.mlp.d_ff,
        activation_function="gelu",
        embd_pdrop=model.dropout,
        resid_pdrop=model.dropout,
        attn_pdrop=model.attention_dropout,
        bos_token_id=None,
        eos_token_id=None,
    )
