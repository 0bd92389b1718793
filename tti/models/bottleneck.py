"""What the residual stream passes through after the middle layer: nothing, or a concept module."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import relu

from tti.models.mlp import Draws
from tti.models.taps import Tap

SCOPE = "concepts"  # of the sites
PATHS = ("known", "discovered", "epsilon")


class Bottleneck(nn.Module):
    """Passes the stream on unchanged; subclasses replace it. Sites are named relative to it, as in an MLP."""

    def forward(self, x: Float[Tensor, "token d_model"], tap: Tap) -> Float[Tensor, "token d_model"]:
        """The stream that the next layer reads, a function of each token's own."""
        return x

    def draws(self, std: float, residual_std: float) -> Draws:
        """Initialization, like that of an MLP."""
        return Draws(first=[])

    @property
    def weights_per_token(self) -> int:
        """Entries of the matrices that multiply a token."""
        return 0

    def writes(self, site: str) -> Float[Tensor, "d_model width"] | None:
        """Output weights of each unit of a site, one column per unit; None if it does not write out."""
        return None

    def reads(self, site: str) -> Float[Tensor, "width d_model"] | None:
        """Input weights of each unit of a site, one row per unit; None if it does not read the stream."""
        return None

    def rotate(self, rotation: Float[Tensor, "d_model d_model"]) -> None:
        """Read and write in a rotated basis of the stream."""


class Concepts(Bottleneck):
    """Writes the stream anew, as the sum of three paths, so that nothing else reaches the later layers.

    ``y = W_k sigmoid(R_k x + b) + W_d top_k(relu(R_d x + c)) + W_e R_e x``

    * *Known* concepts have a unit each, a probability, which a regularizer supervises with the labels of the data
      (``regularizer=concepts``; Koh et al. 2020, "Concept bottleneck models").
    * *Discovered* concepts are few and sparse, and are not told what to mean.
    * *Epsilon* is a linear map of low rank for all the rest. It can carry anything: what it carries is measured
      (``tti.evaluation.leakage``), as in the concept module of which this is a small version (known, unknown, and a
      remainder).

    Args:
        d_model: width of the residual stream.
        known: number of known concepts.
        discovered: number of discovered concepts.
        keep: share of the discovered concepts that a token may have.
        epsilon: rank of the remainder.

    Raises:
        ValueError: ``keep`` is not in (0, 1].
    """

    def __init__(self, d_model: int, known: int, discovered: int, keep: float, epsilon: int) -> None:
        super().__init__()
        if not 0 < keep <= 1:
            raise ValueError(f"keep={keep} must be a fraction in (0, 1] of the {discovered} discovered concepts")
        widths = dict(zip(PATHS, (known, discovered, epsilon), strict=True))
        with torch.random.fork_rng(devices=[]):  # the rest of the network starts as without this module
            self.read = nn.ModuleDict(
                {path: nn.Linear(d_model, width, bias=path != "epsilon") for path, width in widths.items()}
            )
            self.write = nn.ModuleDict({path: nn.Linear(width, d_model, bias=False) for path, width in widths.items()})
        self.kept = max(1, round(keep * discovered))

    def forward(self, x: Float[Tensor, "token d_model"], tap: Tap) -> Float[Tensor, "token d_model"]:
        known = tap("known", tap("logits", self.read["known"](x)).sigmoid())
        discovered = tap("discovered", self._sparse(relu(self.read["discovered"](x))))
        epsilon = tap("epsilon", self.read["epsilon"](x))
        y = self.write["known"](known) + self.write["discovered"](discovered) + self.write["epsilon"](epsilon)
        return tap("out", y)

    def _sparse(self, positive: Float[Tensor, "token discovered"]) -> Float[Tensor, "token discovered"]:
        highest, which = positive.topk(self.kept, dim=-1, sorted=False)
        return torch.zeros_like(positive).scatter(-1, which, highest)

    def draws(self, std: float, residual_std: float) -> Draws:
        """As small as an MLP's; but epsilon keeps the size of the stream, as if it were not there."""
        added = [(self._weight(self.read, path), std) for path in PATHS[:2]]
        added += [(self._weight(self.write, path), residual_std) for path in PATHS[:2]]
        inp, out = (self._weight(side, "epsilon") for side in (self.read, self.write))
        return Draws(first=[], added=[*added, (inp, inp.shape[1] ** -0.5), (out, out.shape[1] ** -0.5)])

    @property
    def weights_per_token(self) -> int:
        return sum(self._weight(side, path).numel() for side in (self.read, self.write) for path in PATHS)

    def writes(self, site: str) -> Float[Tensor, "d_model width"] | None:
        if site == "out":
            return torch.eye(self._weight(self.read, "known").shape[1], device=self._weight(self.read, "known").device)
        return self._weight(self.write, site) if site in PATHS else None

    def reads(self, site: str) -> Float[Tensor, "width d_model"] | None:
        path = "known" if site == "logits" else site
        return self._weight(self.read, path) if path in PATHS else None

    def rotate(self, rotation: Float[Tensor, "d_model d_model"]) -> None:
        for path in PATHS:
            inp, out = self._weight(self.read, path), self._weight(self.write, path)
            inp.data, out.data = inp @ rotation, rotation.T @ out

    @staticmethod
    def _weight(side: nn.ModuleDict, path: str) -> Tensor:
        linear = side[path]
        assert isinstance(linear, nn.Linear)
        return linear.weight
