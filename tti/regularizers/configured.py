"""The regularizers of a configuration."""

from hydra.utils import instantiate
from omegaconf import DictConfig, open_dict

from tti.regularizers.base import Regularizer

WEIGHTING = "weighting"  # key next to a regularizer's arguments for its own weighting, instead of the run's


def configured(group: DictConfig) -> dict[str, Regularizer]:
    """Regularizers of a configuration's ``regularizer`` group by name, not yet attached."""
    return {str(name): instantiate(each, _convert_="all") for name, each in without_weightings(group).items()}


def without_weightings(group: DictConfig) -> DictConfig:
    """The regularizers' own arguments, without their weightings."""
    kept = group.copy()
    with open_dict(kept):
        for each in kept.values():
            each.pop(WEIGHTING, None)
    return kept
