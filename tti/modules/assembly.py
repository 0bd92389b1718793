"""Assembles a task from the groups of a composed configuration."""

from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig

from tti.modules.task import Task
from tti.regularizers.base import Regularizer
from tti.regularizers.configured import WEIGHTING, configured
from tti.weightings.base import Weighting


def assembled(config: DictConfig) -> Task:
    """The task that a configuration describes; its ``model.vocab_size`` must be set.

    Raises:
        ValueError: the parts do not fit together. Hydra wraps the errors of a single part.
    """
    task: Task = instantiate(config.task)(**parts(config))
    return task


def parts(config: DictConfig) -> dict[str, Any]:
    """The parts of the task, by name.

    The network is created first, whatever the order of the keys: its weights are the first to be drawn from the seed,
    so that every variant starts from the same weights, and a run's initial weights can be drawn again.
    """
    net = instantiate(config.model)
    regularizers = configured(config.regularizer)
    return {
        "net": net,
        "regularizers": regularizers,
        "weightings": {name: _weighting(config, name, each) for name, each in regularizers.items()},
        "metrics": _each(config.metrics),
        "constraints": _each(config.constraint),
        "optimizer": instantiate(config.optimizer, _convert_="all"),
        "schedule": instantiate(config.schedule, _convert_="all"),
        "seed": config.seed,
    }


def _weighting(config: DictConfig, name: str, regularizer: Regularizer) -> Weighting:
    make = instantiate(config.regularizer[name].get(WEIGHTING, config.weighting), _convert_="all")
    weighting: Weighting = make(weight=regularizer.weight, warmup=regularizer.warmup)
    weighting.attach(config)
    return weighting


def _each(group: DictConfig) -> dict[str, Any]:
    return {str(name): instantiate(each, _convert_="all") for name, each in group.items()}
