"""Post-hoc training of autoencoders, on recorded activations of a finished model."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from tti.autoencoders.base import SparseAutoencoder

Say = Callable[[str], None]


class Fit:
    """Trains with Adam over several passes of shuffled activations; the learning rate rises, stays, and falls to 0.

    Autoencoders trained together see the same batches in the same order but do not interact: each ends up as if it had
    been trained alone.

    Args:
        passes: passes over all tokens.
        batch: tokens per step.
        lr: learning rate, the same for all kinds and sites (biases are in units of the activation's scale).
        warmup: fraction of the steps over which the learning rate rises linearly from 0.
        decay: fraction of the steps over which it falls linearly to 0.
        seed: seed of the shuffling.
    """

    def __init__(self, passes: int, batch: int, lr: float, warmup: float, decay: float, seed: int) -> None:
        self.passes, self.batch, self.lr, self.warmup, self.decay, self.seed = passes, batch, lr, warmup, decay, seed

    def __call__(
        self,
        autoencoders: Sequence[SparseAutoencoder],
        acts: Float[Tensor, "token d_in"],
        say: Say = lambda text: None,
    ) -> None:
        """Train on these activations; leaves the autoencoders in evaluation mode, on the activations' device.

        Raises:
            ValueError: there are fewer tokens than in a batch.
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
        """The learning-rate factor at a step, counted from 0: rising, 1, falling."""
        rising = (step + 1) / max(1.0, self.warmup * steps)
        falling = (steps - step) / max(1.0, self.decay * steps)
        return max(0.0, min(1.0, rising, falling))
