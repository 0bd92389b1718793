"""A part whose metrics have known verdicts."""

import zlib

import torch

from tti.court.network import SITE
from tti.evaluation.base import Part
from tti.evaluation_folder import Result


class Known(Part):
    """The truth itself, a constant, a random number, and a pure density."""

    def sites(self, widths):
        return (SITE,)

    def attach(self, subject):
        self.truth, self.seen = subject.net.truth, []

    def update(self, seen):
        self.seen.append(seen.step.activations[SITE])

    def compute(self):
        acts = torch.cat(self.seen).double()
        metrics = {
            "truth": self.truth,
            "constant": 0.7,
            "random": zlib.crc32(acts.numpy().tobytes()) / 2**32,
            "density": float((acts.abs() > 1e-3).double().mean()),
        }
        return Result({f"{name}/mlp.post/mean": value for name, value in metrics.items()})
