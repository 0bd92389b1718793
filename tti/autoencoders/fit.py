"""Trains autoencoders afterwards: on recorded activations of a model that does not change any more."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from tti.autoencoders.base import SparseAutoencoder

Say = Callable[[str], None]


class Fit:
    """Adam on shuffled activations, a few passes over them; the learning rate rises at first and falls to 0 at the end.

    Autoencoders that are trained together see the same batches in the same order, and know nothing of each other: each
    comes out as if it had been trained alone.

    Args:
        passes: over all tokens.
        batch: tokens of a step.
        lr: learning rate, for all kinds and sites (biases are in units of the activation's scale).
        warmup: fraction of the steps over which it rises linearly from 0.
        decay: fraction of the steps over which it falls linearly to 0.
        seed: of the order.
    """

    def __init__(self, passes: int, batch: int, lr: float, warmup: float, decay: float, seed: int) -> None:
        self.passes, self.batch, self.lr, self.warmup, self.decay, self.seed = passes, batch, lr, warmup, decay, seed

    def __call__(
        self,
        autoencoders: Sequence[SparseAutoencoder],
        acts: Float[Tensor, "token d_in"],
        say: Say = lambda text: None,
    ) -> None:
        """Train on these activations; after it they are in evaluation mode, on the activations' device.

        Raises:
            ValueError: fewer tokens than a batch takes.
        """
        if len(acts) < self.batch:
            raise ValueError(f"{len(acts)} tokens of activations, but a batch of autoencoders takes {self.batch}")
        for autoencoder in autoencoders:
            autoencoder.to(acts.device).train()
        weights = [weight for autoencoder in autoencoders for weight in autoencoder.parameters()]
        optimizer = torch.optim.Adam(weights, lr=self.lr, fused=True)
        a_pass = len(acts) // self.batch
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.factor(step, self.passes * a_pass))
        generator = torch.Generator().manual_seed(self.seed)
        with torch.enable_grad():
            for number in range(self.passes):
                order = torch.randperm(len(acts), generator=generator).to(acts.device)
                for step in range(a_pass):
                    x = acts[order[step * self.batch : (step + 1) * self.batch]]
                    optimizer.zero_grad()
                    for autoencoder in autoencoders:
                        autoencoder.loss(x).total.backward()
                    optimizer.step()
                    schedule.step()
                    say(f"step {number * a_pass + step + 1} of {self.passes * a_pass}")
        for autoencoder in autoencoders:
            autoencoder.eval()

    def factor(self, step: int, steps: int) -> float:
        """What the learning rate is multiplied by at a step, counted from 0: up, 1, down."""
        rising = (step + 1) / max(1.0, self.warmup * steps)
        falling = (steps - step) / max(1.0, self.decay * steps)
        return max(0.0, min(1.0, rising, falling))
