"""Contexts of neurons from an evaluation: tokens, activations, and the scale of their colours."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tti.evaluation_folder import Part

OUTSIDE = -128  # marks positions outside the story
KINDS = ("top", "bottom", "decile")


@dataclass(frozen=True)
class Contexts:
    """The contexts of one site.

    Attributes:
        places: by kind, ``[width, ...]`` int32, indices into the packed tokens.
        activations: by kind, the same shape, float32.
        windows: by kind, ``[width, ..., window]`` int8, the activations around them in units of ``scale / 127``; -128
            outside the story.
        scale: ``[width]`` float32, the largest absolute activation in each neuron's windows.
    """

    places: Mapping[str, np.ndarray]
    activations: Mapping[str, np.ndarray]
    windows: Mapping[str, np.ndarray]
    scale: np.ndarray

    @classmethod
    def of(cls, part: Part, site: str) -> "Contexts | None":
        """The contexts of a site, or None."""
        arrays = part.arrays
        kinds = [kind for kind in KINDS if f"{site}/{kind}_window" in arrays]
        if not kinds:
            return None
        windows = {kind: arrays[f"{site}/{kind}_window"].astype(np.float32) for kind in kinds}
        largest = [np.nan_to_num(np.abs(w), nan=0.0).max(axis=tuple(range(1, w.ndim))) for w in windows.values()]
        scale = np.maximum.reduce(largest)
        return cls(
            places={kind: arrays[f"{site}/{kind}_place"] for kind in kinds},
            activations={kind: arrays[f"{site}/{kind}_activation"] for kind in kinds},
            windows={kind: quantised(window, scale) for kind, window in windows.items()},
            scale=scale,
        )


def quantised(windows: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """``[width, ..., window]`` float -> int8 in units of each neuron's ``scale / 127``; NaN -> ``OUTSIDE``."""
    unit = np.where(scale > 0, scale, 1).reshape(-1, *[1] * (windows.ndim - 1))
    return np.where(np.isnan(windows), OUTSIDE, np.rint(np.nan_to_num(windows) / unit * 127)).astype(np.int8)
