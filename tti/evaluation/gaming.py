"""Gaming audit: changes of the network that change nothing it does, and which metrics move all the same.

A metric that moves under a change of one of these kinds measures, in part, how the weights are written down. It may be
shown; it may not decide. Every change is only taken after the logits were compared.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from copy import deepcopy

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tti.evaluation.base import Part, Subject
from tti.evaluation.effects import blocks_of
from tti.evaluation.influence import Head
from tti.evaluation.run_through import examine
from tti.evaluation.stories import SEED
from tti.evaluation_folder import Result
from tti.models.gpt import GPT
from tti.models.hard_concrete import HardConcreteMLP
from tti.models.mlp import TopKMLP

TOLERANCE = 1e-6  # of logits in double precision, relative to their largest
MOVED = 0.01  # of a metric, relative


class Change(ABC):
    """A change of a network in double precision that its function does not see."""

    def impossible(self, net: GPT) -> str:
        """Why this network cannot be changed so; empty if it can."""
        return ""

    @abstractmethod
    def __call__(self, net: GPT) -> Head:
        """Change the network in place; what its head is from now on."""


class Permute(Change):
    """The hidden neurons of every MLP in another order."""

    def __call__(self, net: GPT) -> Head:
        generator = torch.Generator().manual_seed(SEED)
        for block in blocks_of(net):
            mlp = block.mlp
            order = torch.randperm(len(mlp.inp.weight), generator=generator).to(mlp.inp.weight.device)
            for parameter in mlp.inp.parameters():
                parameter.data = parameter[order]
            mlp.out.weight.data = mlp.out.weight[:, order]
            if isinstance(mlp, HardConcreteMLP):
                mlp.gates.log_alpha.data = mlp.gates.log_alpha[order]
        return net.logits


class Rescale(Change):
    """Hidden activations smaller by ``factor``, and what they write larger by as much: of a ReLU network."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def impossible(self, net: GPT) -> str:
        probe = torch.linspace(-3, 3, 101)
        for block in blocks_of(net):
            if not torch.allclose(block.mlp.activation(probe * self.factor), block.mlp.activation(probe) * self.factor):
                return "its activation function is not homogeneous"
        return ""

    def __call__(self, net: GPT) -> Head:
        for block in blocks_of(net):
            for parameter in block.mlp.inp.parameters():
                parameter.data *= self.factor
            block.mlp.out.weight.data /= self.factor
        return net.logits


class Duplicate(Change):
    """Every hidden neuron twice, each copy writing half."""

    def impossible(self, net: GPT) -> str:
        top_k = any(isinstance(block.mlp, TopKMLP) for block in blocks_of(net))
        return "copies would compete for the places of top-k" if top_k else ""

    def __call__(self, net: GPT) -> Head:
        for block in blocks_of(net):
            mlp = block.mlp
            for parameter in mlp.inp.parameters():
                parameter.data = torch.cat([parameter, parameter])
            mlp.out.weight.data = mlp.out.weight.repeat(1, 2) / 2
            if isinstance(mlp, HardConcreteMLP):
                mlp.gates.log_alpha.data = mlp.gates.log_alpha.repeat(2)
                mlp.gates.noise = mlp.gates.noise.repeat(2)
        net.__dict__.pop("sites", None)  # widths have changed
        return net.logits


class RotateResidual(Change):
    """Another basis of the residual stream: what is written and read turns with it.

    LayerNorm takes away the mean, so the all-ones direction stays; its gains and biases are folded into the weights
    that read from it first (which gives those a bias).
    """

    def __call__(self, net: GPT) -> Head:
        q = rotation_about_ones(net.embed.weight.shape[1]).to(net.embed.weight.device)
        head, bias = net.embed.weight * net.ln_final.weight, net.embed.weight @ net.ln_final.bias
        for block in blocks_of(net):
            block.attn.qkv = _folded(block.attn.qkv, block.ln1, q)
            reader = block.mlp.residual_reader
            reader.inp = _folded(reader.inp, block.ln2, q)
            biases = [linear.bias for linear in (block.attn.out, block.mlp.out) if linear.bias is not None]
            for written in (block.attn.out.weight, *block.mlp.residual_writers, *biases):
                written.data = q.T @ written
        _neutral(net.ln_final)
        for embedding in (net.embed, net.pos_embed):
            embedding.weight.data = embedding.weight @ q
        return lambda hidden: hidden @ (head @ q).T.to(hidden.dtype) + bias.to(hidden.dtype)


def _folded(linear: nn.Linear, norm: nn.LayerNorm, q: Float[Tensor, "d d"]) -> nn.Linear:
    folded = nn.Linear(linear.in_features, linear.out_features, device=q.device, dtype=q.dtype)
    folded.weight.data = linear.weight * norm.weight @ q
    folded.bias.data = linear.weight @ norm.bias + (0 if linear.bias is None else linear.bias)
    _neutral(norm)
    return folded


def _neutral(norm: nn.LayerNorm) -> None:
    norm.weight.data.fill_(1)
    norm.bias.data.zero_()


def rotation_about_ones(width: int) -> Float[Tensor, "d d"]:
    """A random orthogonal matrix that leaves the all-ones direction where it is."""
    generator = torch.Generator().manual_seed(SEED)
    inner, _ = torch.linalg.qr(torch.randn(width - 1, width - 1, generator=generator, dtype=torch.float64))
    mirror = torch.full((width,), width**-0.5, dtype=torch.float64)
    mirror[0] -= 1
    mirror /= mirror.norm().clamp_min(1e-12)
    householder = torch.eye(width, dtype=torch.float64) - 2 * torch.outer(mirror, mirror)  # first axis <-> all-ones
    turned = torch.block_diag(torch.ones(1, 1, dtype=torch.float64), inner)
    return householder @ turned @ householder


class Gaming(Part):
    """Metrics before and after every change, on whole stories drawn at random.

    ``<change>/<metric>/before``, ``after`` and ``moved`` (1: by more than 1 %), for the mean over layers of every
    metric of the audited parts; ``<change>/logit_difference`` is the largest, relative to the largest logit.

    Args:
        changes: name -> change.
        parts: name -> part that is audited.
        tokens: of the stories.
    """

    streams = False

    def __init__(self, changes: Mapping[str, Change], parts: Mapping[str, Part], tokens: int) -> None:
        super().__init__()
        self.changes, self.parts, self.tokens = changes, parts, tokens

    def attach(self, subject: Subject) -> None:
        self.subject = subject
        self.stories = subject.stories.subset(self.tokens)

    def compute(self) -> Result:
        before = self._measured(self.subject.net, self.subject.head)
        metrics: dict[str, float] = {}
        notes: dict[str, str] = {}
        for name, change in self.changes.items():
            if reason := change.impossible(self.subject.net):
                notes[name] = f"left out: {reason}"
                continue
            net = deepcopy(self.subject.net).double()  # in which rounding does not decide who is among the top k
            head = change(net)
            metrics[f"{name}/logit_difference"] = self._difference(name, net, head)
            for metric, after in self._measured(net.float(), head).items():
                metrics[f"{name}/{metric}/before"], metrics[f"{name}/{metric}/after"] = before[metric], after
                metrics[f"{name}/{metric}/moved"] = float(moved(before[metric], after))
        return Result(metrics, notes=notes)

    def _measured(self, net: GPT, head: Head | None) -> dict[str, float]:
        examine({Subject("", net, self.stories, head=head): list(self.parts.values())}, self.tokens)
        results = {name: part.compute() for name, part in self.parts.items()}
        return {
            f"{name}/{metric.removesuffix('/mean')}": value
            for name, result in results.items()
            for metric, value in result.metrics.items()
            if metric.endswith("/mean")
        }

    def _difference(self, name: str, net: GPT, head: Head) -> float:
        batch = self.stories.drawn(256).to(self.subject.device).batch
        original = deepcopy(self.subject.net).double()
        expected = original.logits(original(batch.tokens, batch.stories))
        found = head(net(batch.tokens, batch.stories))
        difference = float((found - expected).abs().max() / expected.abs().max())
        if not difference <= TOLERANCE:
            raise ValueError(
                f"the change {name} changes the logits, by {difference:.1e} of the largest: it is no audit"
            )
        return difference


def moved(before: float, after: float) -> bool:
    """By more than :data:`MOVED` of what it was; not-a-number on both sides stays."""
    if before != before or after != after:
        return (before == before) != (after == after)
    return abs(after - before) > MOVED * max(abs(before), 1e-3)
