"""The regularizers of a configuration."""

from hydra.utils import instantiate
from omegaconf import DictConfig, open_dict

from tti.regularizers.base import Regularizer

WEIGHTING = "weighting"  # a key alongside a regularizer's arguments: what sets its coefficient, where not the run's


def configured(group: DictConfig) -> dict[str, Regularizer]:
    """Name -> regularizer, not attached yet, of a configuration's ``regularizer``."""
    return {str(name): instantiate(each, _convert_="all") for name, each in without_weightings(group).items()}


def without_weightings(group: DictConfig) -> DictConfig:
    """The regularizers' own arguments."""
    kept = group.copy()
    with open_dict(kept):
        for each in kept.values():
            each.pop(WEIGHTING, None)
    return kept
