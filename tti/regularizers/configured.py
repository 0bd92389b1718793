"""The regularizers of a configuration."""

from hydra.utils import instantiate
from omegaconf import DictConfig, open_dict

from tti.regularizers.base import Regularizer

WEIGHTING = "weighting"  # a key alongside a regularizer's arguments: what sets its coefficient, where not the run's


def configured(group: DictConfig) -> dict[str, Regularizer]:
    """Name -> regularizer, not attached yet, of a configuration's ``regularizer``."""
    return {str(name): instantiate(_arguments(each), _convert_="all") for name, each in group.items()}


def _arguments(node: DictConfig) -> DictConfig:
    kept = node.copy()
    with open_dict(kept):
        kept.pop(WEIGHTING, None)
    return kept
