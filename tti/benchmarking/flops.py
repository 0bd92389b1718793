"""The arithmetic per token, and the peak arithmetic of the device."""

import torch
from hydra.utils import instantiate

from tti.benchmarking.clocks import Clock
from tti.benchmarking.setting import Setting
from tti.models.network import Network

# Dense bf16 operations per second, from NVIDIA's data sheets, by a part of the device's name; the first match counts.
PEAKS = {"H200": 989e12, "H100 PCIe": 756e12, "H100": 989e12, "A100": 312e12}
FORMULA = (
    "Operations per token: 6 (P + V d) + 12 L d c, with P parameters in the matrices of the blocks, a vocabulary of V, "
    "d = d_model, L layers, and c the mean number of positions that a token attends to (its story up to itself)."
)
TRIES, SIZE = 5, 2048  # of the matrix products that measure a CPU
SOURCE = (
    f"in the precision of the loop's own products: on a CPU the fastest of {TRIES} products of {SIZE} x {SIZE}; on a "
    "GPU from its data sheet, in bf16 only"
)


def per_token(setting: Setting) -> float:
    """Floating-point operations of a training step per real token; recomputation is not counted."""
    model = setting.config.model
    with torch.device("meta"):
        net: Network = instantiate(model)
    lengths = torch.tensor([length for sample in setting.samples for length in sample.batch.stories.lengths]).double()
    attended = float((lengths * (lengths + 1) / 2).sum() / lengths.sum())
    return net.operations_per_token + 12 * model.n_layers * model.d_model * attended


def peak(clock: Clock, dtype: torch.dtype) -> float | None:
    """Peak operations per second in ``dtype``: measured on a CPU; from the data sheet of a GPU, where known in bf16."""
    if not torch.cuda.is_available():
        return 2 * SIZE**3 / min(_seconds_of_a_product(clock, dtype) for _ in range(TRIES))
    if dtype != torch.bfloat16:
        return None
    name = torch.cuda.get_device_name()
    return next((value for known, value in PEAKS.items() if known in name), None)


def _seconds_of_a_product(clock: Clock, dtype: torch.dtype) -> float:
    factor, product = torch.ones(SIZE, SIZE, dtype=dtype), torch.ones(SIZE, SIZE, dtype=dtype)
    began = clock()
    torch.mm(factor, factor, out=product)
    return clock() - began


def tokens_a_run(setting: Setting) -> float:
    """Real tokens of a whole training, estimated from the benchmarked steps."""
    samples = setting.samples
    return setting.config.trainer.max_steps * sum(sample.step_tokens for sample in samples) / len(samples)
