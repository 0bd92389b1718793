"""Decoys: hidden neurons that respond to tokens but write nothing, added to those of another MLP.

A score that decoys raise does not measure what the network computes. The gaming audit adds decoys to a trained network,
and ``experiment=decoys`` trains decoys to raise scores.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import relu

from tti.models.mlp import DenseMLP, Draws, FeedForward
from tti.models.stories import Stories
from tti.models.symmetry import folded
from tti.models.taps import Tap


class WithDecoys(FeedForward):
    """An MLP with idle neurons concatenated to its own at the sites ``pre`` and ``post``; its output is unchanged.

    The output is equal to the last digit, since the MLP never reads the decoys; they read a detached residual stream.
    The site ``decoys`` holds the decoys alone, before their non-linearity.

    Args:
        mlp: the MLP that computes the output.
        reader: linear map from the residual stream to the decoys' pre-activations.
        activation: the decoys' activation function.
    """

    def __init__(self, mlp: FeedForward, reader: nn.Linear, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.mlp, self.reader, self.activation = mlp, reader, activation

    def forward(self, x: Float[Tensor, "token d_model"], tap: Tap) -> Float[Tensor, "token d_model"]:
        return self.among(x, None, tap)

    def among(
        self, x: Float[Tensor, "token d_model"], layout: Stories | None, tap: Tap
    ) -> Float[Tensor, "token d_model"]:
        pre = tap("decoys", self.reader(x.detach()))
        idle = {"pre": pre, "post": self.activation(pre)}

        def beside(site: str, activation: Tensor) -> Tensor:
            if site not in idle:
                return tap(site, activation)
            width = activation.shape[1]
            return tap(site, torch.cat([activation, idle[site]], 1))[:, :width].contiguous()

        return self.mlp.among(x, layout, beside)

    def draws(self, std: float, residual_std: float) -> Draws:
        draws = self.mlp.draws(std, residual_std)
        return draws._replace(added=[*draws.added, (self.reader.weight, std)])

    @property
    def weights_per_token(self) -> int:
        return self.mlp.weights_per_token + self.reader.weight.numel()

    def writes(self, site: str) -> Float[Tensor, "d_model width"] | None:
        """The MLP's output weights, with zero columns for the decoys."""
        written = self.mlp.writes(site)
        if written is None or site != "post":
            return written
        return torch.cat([written, written.new_zeros(len(written), self.reader.out_features)], 1)

    def reads(self, site: str) -> Float[Tensor, "width d_model"] | None:
        if site == "decoys":
            return self.reader.weight
        read = self.mlp.reads(site)
        return torch.cat([read, self.reader.weight]) if read is not None and site in ("pre", "post") else read

    @property
    def width(self) -> int:
        return self.mlp.width

    def permute(self, order: Int[Tensor, "width"]) -> None:
        self.mlp.permute(order)

    def rescale(self, factor: float) -> None:
        self.mlp.rescale(factor)

    def duplicate(self) -> None:
        self.mlp.duplicate()

    def rotate(self, norm: nn.LayerNorm, rotation: Float[Tensor, "d_model d_model"]) -> None:
        self.reader = folded(self.reader, norm, rotation)
        self.mlp.rotate(norm, rotation)


class DecoyMLP(WithDecoys):
    """A dense MLP with decoys that ``regularizer=decoys`` can train; no other gradient reaches them.

    The decoys are optimized and clipped separately, so the rest of the network trains exactly as with a dense MLP, to
    the last digit.

    Args:
        d_model: width of the residual stream.
        d_ff: hidden units of the dense MLP.
        activation: activation function of the MLP and the decoys.
        decoys: number of decoys.
        learning_rate: learning rate of the decoys.
    """

    def __init__(
        self, d_model: int, d_ff: int, activation: Callable[[Tensor], Tensor], decoys: int, learning_rate: float
    ) -> None:
        with torch.random.fork_rng(devices=[]):
            reader = Detector(d_model, decoys, learning_rate)
        super().__init__(DenseMLP(d_model, d_ff, activation), reader, activation)


class Detector(nn.Linear):
    """A linear map with its own learning rate and gradient clipping (``tti.modules.protocols.Tuned``)."""

    def __init__(self, d_model: int, width: int, learning_rate: float) -> None:
        super().__init__(d_model, width)
        self.optimizer_settings = {"lr": learning_rate, "weight_decay": 0.0}


def detectors(stream: Float[Tensor, "token d_model"], on: Float[Tensor, "token n"]) -> nn.Linear:
    """A linear map with bias that separates the tokens where ``on`` is 1 from those where it is 0.

    Directions come from least squares over the tokens, with a ridge of 1e-3 times the mean variance, which suppresses
    idle directions. Each bias makes its output positive on as many tokens as ``on`` contains.
    """
    centred, wanted = stream - stream.mean(0), on.to(stream.dtype)
    scatter = centred.T @ centred
    ridge = 1e-3 * scatter.diagonal().mean().clamp_min(torch.finfo(stream.dtype).tiny)
    weight = torch.linalg.solve(scatter + ridge * torch.eye(len(scatter)).to(scatter), centred.T @ wanted).T
    ordered = (stream @ weight.T).sort(0, descending=True).values
    last = on.sum(0).long().clamp(1, len(on) - 1)[None]
    made = nn.Linear(stream.shape[1], on.shape[1], device=stream.device, dtype=stream.dtype)
    made.weight.data, made.bias.data = weight, -(ordered.gather(0, last - 1) + ordered.gather(0, last))[0] / 2
    return made


def with_detectors(
    mlp: FeedForward, stream: Float[Tensor, "token d_model"], on: Float[Tensor, "token n"]
) -> WithDecoys:
    """The MLP with idle neurons that fire where ``on`` is 1, as far as a linear map of the MLP's input can tell."""
    return WithDecoys(mlp, detectors(stream, on), relu)
