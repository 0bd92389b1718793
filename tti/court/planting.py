"""Planted activations: a layer made from the grammar's exact labels, as a recipe says."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from tti.court.recipe import NOISE, SHUFFLED, Recipe
from tti.data.cache import PackedStories
from tti.data.ceilings import FACTORS
from tti.data.grammar import StoryGrammar
from tti.data.templates import NONE as NO_VALUE

CHILD = 0.1, 0.5  # a child holds on between these shares of the parent's tokens

Indicators = Bool[np.ndarray, "token value"]


@dataclass(frozen=True)
class Labels:
    """The exact labels of a split: which value of which factor each packed token carries.

    Attributes:
        tokens: id of every packed token.
        values: for every value of every factor, except ``none``, the tokens that carry it.
        factor: the factor of each value.
    """

    tokens: Int[np.ndarray, "token"]
    values: Indicators
    factor: Int[np.ndarray, "value"]

    @classmethod
    def of(cls, packed: PackedStories, grammar: StoryGrammar) -> "Labels":
        """Labels of a packed split of the grammar."""
        factors = np.asarray(packed.extra(FACTORS))
        named = [
            (column, value)
            for column, names in enumerate(grammar.factors.values())
            for value, name in enumerate(names)
            if name != NO_VALUE
        ]
        values = np.stack([factors[:, column] == value for column, value in named], 1)
        return cls(packed.tokens.astype(np.int64), values, np.array([column for column, _ in named]))

    @cached_property
    def share(self) -> Float[np.ndarray, "value"]:
        """Share of the tokens that carry each value."""
        return self.values.mean(0)


class Planting:
    """A layer planted by a recipe: the same neurons on every split, drawn from ``seed``.

    Args:
        recipe: the recipe.
        band: lowest and highest share of the tokens on which a planted value holds.
        labels: the labels of the split from which frequencies and sets of token types are taken.
        seed: seed of everything that is random.

    Raises:
        ValueError: too few values have the frequency that the recipe asks for.
    """

    def __init__(self, recipe: Recipe, band: Sequence[float], labels: Labels, seed: int) -> None:
        self.recipe, self.seed = recipe, seed
        low, high = band
        usable = np.flatnonzero((labels.share >= low) & (labels.share <= high))
        if len(usable) < recipe.values:
            raise ValueError(
                f"{len(usable)} values of the grammar hold on {low:g} to {high:g} of the tokens, too few for "
                f"trial.planted.values={recipe.values}: plant fewer, or widen trial.bands.{recipe.frequency}"
            )
        self.own = self._draw("values").permutation(usable)[: recipe.values]
        repeated = self._some("redundancy", recipe.redundancy)
        single = np.delete(self.own, repeated)
        self.own[repeated] = self._draw("repeated").choice(single, len(repeated))
        self.members = [np.append(own, self._others(labels, own)) for own in self.own]
        self.children = [self._child(labels, own) for own in self.own]
        self.words = {j: best_types(labels, self.own[j]) for j in self._some("lexical", recipe.lexical)}
        self.mixing = self._mixing()

    def features(self, labels: Labels, stream: int) -> Float[np.ndarray, "token value"]:
        """Where each planted neuron should fire: 1 or 0."""
        made = np.stack([self._fires(labels, neuron, stream) for neuron in range(self.recipe.values)], 1)
        if self.recipe.control == NOISE:
            made[:] = False
        if self.recipe.control == SHUFFLED:
            made = made[self._draw("shuffled", stream).permutation(len(made))]
        return made.astype(np.float32)

    def layer(self, labels: Labels, stream: int) -> Float[np.ndarray, "token width"]:
        """Activations at every packed token.

        Args:
            labels: the split's labels.
            stream: a number that differs between splits, for the noise.
        """
        recipe, draw = self.recipe, self._draw("noise", stream)
        clean = recipe.gain * self.features(labels, stream) @ self.mixing
        noise = recipe.noise * draw.standard_normal(clean.shape, dtype=np.float32)
        noise *= draw.random(clean.shape, dtype=np.float32) < recipe.density
        return np.tile(recipe.scale * (clean + noise) + np.float32(self.offset), recipe.duplication)

    @property
    def offset(self) -> float:
        """What is added to every activation."""
        return self.recipe.scale * self.recipe.gain * self.recipe.offset

    @cached_property
    def decoding(self) -> Float[np.ndarray, "width value"]:
        """The linear map by which the planted values are read from the layer: they are what the network uses.

        It applies to activations less their offset. Rotations, offsets, scales and copies therefore leave the network's
        output as it is.
        """
        recipe = self.recipe
        one = np.linalg.pinv(recipe.gain * recipe.scale * self.mixing)
        return (np.tile(one, (recipe.duplication, 1)) / recipe.duplication).astype(np.float32)

    def effects(self, vocabulary: int) -> Float[np.ndarray, "value vocab"]:
        """What each planted value adds to the logits; random."""
        shape = self.recipe.values, vocabulary
        return self.recipe.output * self._draw("effects").standard_normal(shape, dtype=np.float32)

    def _mixing(self) -> Float[np.ndarray, "value width"]:
        """Weights of the values in the neurons: a rotation by the angle, or random directions."""
        recipe = self.recipe
        if recipe.superposition > 1:
            directions = self._draw("mixing").standard_normal((recipe.values, recipe.values // recipe.superposition))
            return (directions / np.linalg.norm(directions, axis=1, keepdims=True)).astype(np.float32)
        angle = np.radians(recipe.rotation)
        turned = quarter_turn(recipe.values, self._draw("mixing"))
        return (np.cos(angle) * np.eye(recipe.values) + np.sin(angle) * turned).astype(np.float32)

    def _fires(self, labels: Labels, neuron: int, stream: int) -> Bool[np.ndarray, "token"]:
        if neuron in self.words:
            return np.isin(labels.tokens, self.words[neuron])
        fires: Bool[np.ndarray, "token"] = np.logical_or.reduce(labels.values[:, self.members[neuron]], axis=1)
        if self.recipe.absorption and (child := self.children[neuron]) is not None:
            drawn = self._draw("absorption", stream, neuron).random(len(fires)) < self.recipe.absorption
            fires &= ~(labels.values[:, child] & drawn)
        return fires

    def _others(self, labels: Labels, own: int) -> Int[np.ndarray, "other"]:
        """The other values of a union: of other factors, and planted elsewhere, so that a union covers no new value."""
        planted = np.unique(self.own)
        unrelated = planted[labels.factor[planted] != labels.factor[own]]
        if len(unrelated) < self.recipe.union - 1:
            raise ValueError(
                f"union={self.recipe.union} needs as many unrelated values, and {len(unrelated) + 1} are planted: "
                "plant more (trial.planted.values)"
            )
        return self._draw("union", own).permutation(unrelated)[: self.recipe.union - 1]

    def _child(self, labels: Labels, own: int) -> int | None:
        """A value of another factor that holds on some of the value's tokens, if there is one."""
        if not self.recipe.absorption:
            return None
        within = labels.values[labels.values[:, own]].mean(0)
        able = (within >= CHILD[0]) & (within <= CHILD[1]) & (labels.factor != labels.factor[own])
        return int(self._draw("child", own).choice(np.flatnonzero(able))) if able.any() else None

    def _some(self, dial: str, share: float) -> Int[np.ndarray, "neuron"]:
        """That share of the neurons, drawn at random."""
        return np.sort(self._draw(dial).permutation(self.recipe.values)[: round(share * self.recipe.values)])

    def _draw(self, purpose: str, *numbers: int) -> np.random.Generator:
        """Random numbers of their own for every purpose, so that turning one dial redraws nothing else."""
        return np.random.default_rng((self.seed, *purpose.encode(), *map(int, numbers)))


def quarter_turn(values: int, draw: np.random.Generator) -> Float[np.ndarray, "value value"]:
    """A random rotation that takes every direction to one at a right angle, by 90 degrees in random planes.

    ``cos t * I + sin t * J``, with ``J`` this matrix, rotates every direction by exactly ``t``, since ``J`` is
    orthogonal and skew.
    """
    basis, triangle = np.linalg.qr(draw.standard_normal((values, values)))
    basis *= np.sign(np.diag(triangle))  # Haar measure (Mezzadri 2007, section 5)
    half = values // 2
    turn = np.zeros((values, values))
    turn[range(half), range(half, values)], turn[range(half, values), range(half)] = 1, -1
    return basis @ turn @ basis.T


def best_types(labels: Labels, value: int) -> Int[np.ndarray, "type"]:
    """The set of token types with the highest F1 for a value: the best detector of the current token alone."""
    carries = labels.values[:, value]
    said = np.bincount(labels.tokens)
    hits = np.bincount(labels.tokens[carries], minlength=len(said))
    order = np.argsort(-hits / said.clip(1), kind="stable")
    f1 = 2 * hits[order].cumsum() / (said[order].cumsum() + carries.sum()).clip(1)
    return order[: int(f1.argmax()) + 1]


def related(factors: Int[np.ndarray, "story factor"]) -> Int[np.ndarray, "story"]:
    """For each story, how many of its factors go with its first factor, by number."""
    most = factors.max(0).clip(1)
    return ((factors - 1) % most == (factors[:, :1] - 1) % most)[:, 1:].sum(1)
