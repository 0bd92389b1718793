"""How much arithmetic a model is, from its configuration."""

from collections.abc import Mapping
from typing import Any


def per_token(model: Mapping[str, Any], vocab_size: int) -> int:
    """Floating-point operations of a training step per token, ``6 (P + V d)``: attention over positions left out.

    P: parameters in the matrices of the blocks, V: token types, d: ``d_model``; nothing for what is recomputed, nor for
    what regularizers compute.
    """
    d_model, mlp = model["d_model"], model["mlp"]
    layer = 4 * d_model**2 + 2 * d_model * (mlp["d_ff"] + mlp.get("expansion", 0) * d_model)
    return int(6 * (model["n_layers"] * layer + vocab_size * d_model))
