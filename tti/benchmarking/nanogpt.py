"""A loop in the style of nanoGPT: packed rows, fused attention, ``torch.compile``, fused AdamW."""

from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from tti.benchmarking.loop import Reference
from tti.benchmarking.sample import Sample
from tti.benchmarking.setting import Setting
from tti.benchmarking.transformer import Transformer

MULTIPLE = 64  # nanoGPT rounds GPT-2's vocabulary of 50,257 up to 50,304, which suits the kernels


class NanoGPT(Reference):
    """Rows of equal length without padding, in which a story sees the ones before it; full logits.

    Args:
        setting: the training.
        precision: nanoGPT itself uses bf16; on a CPU that multiplies float32 faster, float32 is the fairer comparison.
        compile: whether to compile the network.
    """

    def __init__(self, setting: Setting, precision: str = "bf16-mixed", compile: bool = True) -> None:
        setting = setting.having(f"trainer.precision={precision}")
        model = setting.config.model
        vocab_size = -(-model.vocab_size // MULTIPLE) * MULTIPLE
        super().__init__(setting, Transformer(model, fused, vocab_size), fused=True)
        if compile:
            self.net.compile()

    def loss(self, sample: Sample) -> Tensor:
        return self.net(sample.packed_tokens, sample.packed_targets)

    def tokens(self, sample: Sample) -> int:
        return sample.packed_tokens.numel()


def fused(q: Tensor, k: Tensor, v: Tensor, dropout: float) -> Tensor:
    """Causal attention with PyTorch's fastest kernel."""
    return scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
