"""Learning-rate schedules: factors of the peak learning rate, as functions of the step."""

import math
from functools import partial

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def cosine_with_warmup(optimizer: Optimizer, max_steps: int, warmup: float) -> LambdaLR:
    """Linear warm-up over the fraction ``warmup`` of training, then half a cosine down to 0."""
    return LambdaLR(optimizer, partial(_factor, max_steps=max_steps, warmup_steps=max(1, round(warmup * max_steps))))


def _factor(step: int, max_steps: int, warmup_steps: int) -> float:
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(1, max_steps - warmup_steps)))
