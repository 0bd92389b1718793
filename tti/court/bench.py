"""The bench: it plants a layer in a network, and measures a part of the common evaluation on it."""

from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from jaxtyping import Int
from omegaconf import DictConfig, OmegaConf

from tti.configuration import digest
from tti.court.network import SITE, PlantedNetwork
from tti.court.planting import Labels, Planting, related
from tti.court.recipe import Recipe
from tti.data.ceilings import FACTORS
from tti.data.grammar import STORY_FACTORS, StoryGrammar
from tti.evaluation import runner
from tti.evaluation.base import Part, Subject
from tti.evaluation.run_through import examine
from tti.evaluation.stories import SEED, StorySet
from tti.evaluation_folder import ROTATION, TRAINED
from tti.models.taps import kind_of

SPLIT = "validation"
HALVES = (0, 1)
CHOSEN = 6  # a correlation leaves one story in so many
PLACE = f"/{kind_of(SITE)}/mean"
BEYOND = " - rotation"


@dataclass(frozen=True)
class Layer:
    """A layer on which metrics are tried: a recipe, its seed, and the half of the stories."""

    recipe: Recipe
    seed: int
    half: int

    @property
    def key(self) -> dict[str, Any]:
        """What identifies it, as JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Measured:
    """The metrics of a part on a layer, and its cost in forward passes over the stories."""

    metrics: dict[str, float]
    passes: float


class Bench:
    """Plants layers in the grammar's stories, and measures them.

    Args:
        config: configuration of the command.
    """

    def __init__(self, config: DictConfig) -> None:
        self.config = config
        self.grammar = StoryGrammar()
        self.stories = StorySet(instantiate(config.data), SPLIT, config.tokens_per_chunk)

    def measure(self, part: str, network: PlantedNetwork, layer: Layer) -> Measured:
        """One part of the evaluation on a planted layer and, if it has this subject, on the layer's rotation.

        Raises:
            ValueError: the part does not apply to a planted layer, or asks for another site.
        """
        stories = self._seen(layer)
        names = [name for name in (TRAINED, ROTATION) if name in self.config.evaluation[part].subjects]
        parts = {Subject(name, network, stories, runner.VIEWS[name]): self.part(part) for name in names}
        if reason := next(filter(None, (made.inapplicable(subject) for subject, made in parts.items())), ""):
            raise ValueError(f"{part} cannot stand trial: {reason}")
        network.ran = 0
        examine({subject: [made] for subject, made in parts.items()}, self.config.calibration_tokens)
        with torch.no_grad():
            found = {subject.name: made.compute().metrics for subject, made in parts.items()}
        passes = network.ran / stories.tokens
        return Measured(named(part, found[TRAINED]) | beyond(part, found[TRAINED], found.get(ROTATION, {})), passes)

    def plant(self, layer: Layer) -> PlantedNetwork:
        """The network of a layer."""
        band = self.config.trial.bands[layer.recipe.frequency]
        planting = Planting(layer.recipe, band, self._labels[0][1], layer.seed)
        return PlantedNetwork(planting, self._labels, self.stories.max_length)

    def part(self, name: str) -> Part:
        """A part as the evaluation makes it."""
        return runner.made(self._settings(name))

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts on trial."""
        return tuple(self.config.get("evaluation") or ())

    def _settings(self, part: str) -> DictConfig:
        return DictConfig(OmegaConf.merge(self.config.evaluation[part], self.config.adapted.get(part, {})))

    def how(self, part: str) -> str:
        """A digest of everything about a measurement but the layer: settings of the part, stories, and bands."""
        settings = OmegaConf.to_container(self._settings(part), resolve=True)
        sizes = [self.config.tokens_per_chunk, self.config.calibration_tokens]
        data = [packed.manifest["arrays"]["tokens"]["sha256"] for packed, _ in self._labels]
        return digest(repr((settings, sizes, data, OmegaConf.to_container(self.config.trial.bands))))

    @cached_property
    def _labels(self) -> list[tuple[Any, Labels]]:
        splits = (self.stories.packed, self.stories.training().packed)
        return [(packed, Labels.of(packed, self.grammar)) for packed in splits]

    def _seen(self, layer: Layer) -> StorySet:
        """The stories that a metric sees."""
        recipe, seen = layer.recipe, copy(self.stories)
        members = np.random.default_rng(SEED).permutation(len(seen.packed))[layer.half :: len(HALVES)]
        if recipe.correlation is not None:
            members = self._correlated(members, recipe.correlation)
        seen.members = np.sort(members[: round(recipe.tokens * len(members))])
        return seen

    def _correlated(self, members: Int[np.ndarray, "story"], share: float) -> Int[np.ndarray, "chosen"]:
        """Some of the stories: that share of them those whose factors go together most, the others as they come."""
        count = len(members) // CHOSEN
        first = members[np.argsort(-self._related[members], kind="stable")][: round(share * count)]
        others = members[~np.isin(members, first)]
        return np.append(first, others[: count - len(first)])

    @cached_property
    def _related(self) -> Int[np.ndarray, "story"]:
        packed = self.stories.packed
        last = np.asarray(packed.extra(FACTORS))[packed.offsets[1:] - 2]
        return related(last[:, : len(STORY_FACTORS)].astype(int))


def named(part: str, metrics: Mapping[str, float]) -> dict[str, float]:
    """``part/metric``, without the site."""
    return {f"{part}/{name.removesuffix(PLACE)}": float(value) for name, value in metrics.items()}


def beyond(part: str, metrics: Mapping[str, float], rotated: Mapping[str, float]) -> dict[str, float]:
    """The metrics minus those of a random rotation of the layer, as a report compares them."""
    differences = {name: value - rotated[name] for name, value in metrics.items() if name in rotated}
    return {f"{name}{BEYOND}": value for name, value in named(part, differences).items()}


def layers(recipes: list[Recipe], seeds: list[int]) -> Iterator[Layer]:
    """Every recipe with every seed on every half of the stories."""
    for seed in seeds:
        for recipe in recipes:
            for half in HALVES:
                yield Layer(recipe, seed, half)
