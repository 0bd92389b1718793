"""Activations at a fixed sample of tokens, the same for every run on the same data."""

from collections.abc import Mapping

import torch
from jaxtyping import Int
from torch import Tensor

from tti.evaluation.base import Seen, array
from tti.evaluation.stories import StorySet
from tti.evaluation_folder import Array


class Chosen:
    """A random sample of fixed size from the tokens of a pass; all tokens if there are fewer."""

    def __init__(self, stories: StorySet, tokens: int, device: torch.device) -> None:
        self.numbers = torch.from_numpy(stories.sample(tokens)).to(device)

    def __len__(self) -> int:
        return len(self.numbers)

    def within(self, seen: Seen) -> tuple[slice, Int[Tensor, "chosen"]]:
        """Which of the sample are among these tokens, and their rows."""
        last = seen.first + len(seen.step.batch)
        bounds = torch.searchsorted(self.numbers, torch.tensor([seen.first, last], device=self.numbers.device)).tolist()
        which = slice(*bounds)
        return which, self.numbers[which] - seen.first


class Sample:
    """Activations of the sample in half precision, ``2 tokens x width`` bytes per site."""

    def __init__(self, stories: StorySet, tokens: int, widths: Mapping[str, int], device: torch.device) -> None:
        self.chosen = Chosen(stories, tokens, device)
        count = len(self.chosen)
        self.places = torch.zeros(count, dtype=torch.int64, device=device)
        self.acts = {
            site: torch.zeros(count, width, dtype=torch.float16, device=device) for site, width in widths.items()
        }

    def update(self, seen: Seen) -> None:
        """Store the sampled tokens among these."""
        which, rows = self.chosen.within(seen)
        self.places[which] = seen.places[rows]
        for site, kept in self.acts.items():
            kept[which] = seen.step.activations[site][rows].half()

    def arrays(self) -> dict[str, Array]:
        """``sample/place`` and ``<site>/sample``."""
        named = {f"{site}/sample": array(kept, "sample", "width") for site, kept in self.acts.items()}
        return {"sample/place": array(self.places, "sample"), **named}
