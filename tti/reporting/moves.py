"""What moving a latent changes in the sentences that a decoder writes: one run of each variant, read once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tti.evaluation_folder import Evaluation
from tti.reporting import tables
from tti.reporting.given import Key
from tti.reporting.selection import Selection

CHANGE, TEXT, FACTORS = "intervention/change", "traversal/text", "factor/name"
ORIGINAL, WRITTEN = "traversal/original", "traversal/written"
CANNOT = "moves of latents not shown"
SHOWN = 0.05  # change of a factor from which a latent counts as changing anything


@dataclass(frozen=True)
class Moves:
    """The moves of the latents of one run.

    Attributes:
        variant, seed: the run.
        factors: names of the factors and of the parts of the style.
        change: ``[latent, factor]``, share of sentences in which the factor differs between both ends of the latent's
            move; 0 where nothing could be parsed.
        texts: ``[sentence, latent, step]``, what is written as the latent moves.
        originals: ``[sentence]``, the sentences whose codes are moved.
        written: ``[sentence]``, what is written from their codes before any move; in evaluations that lack it, the
            originals.
    """

    variant: str
    seed: int
    factors: Sequence[str]
    change: np.ndarray
    texts: np.ndarray
    originals: Sequence[str]
    written: Sequence[str]

    @property
    def order(self) -> list[int]:
        """The latents that change anything, sorted by the factor they change most, the strongest first."""
        most = self.change.argmax(1)
        moving = np.flatnonzero(self.change.max(1) >= SHOWN)
        return sorted(moving.tolist(), key=lambda latent: (most[latent], -self.change[latent].max()))

    @property
    def best(self) -> int:
        """The latent whose move changes one factor most beyond all others together."""
        most = self.change.max(1)
        return int((2 * most - self.change.sum(1)).argmax())

    def factor(self, latent: int) -> str:
        """The factor that a latent changes most."""
        return self.factors[int(self.change[latent].argmax())]


def moves(evaluations: Mapping[Key, Evaluation], selection: Selection) -> tuple[list[Moves], list[str]]:
    """The moves of the lowest seed of each variant that has them; and remarks on what could not be read."""
    remarks: list[str] = []
    found: dict[str, Moves] = {}
    for key, _, change, part in tables.arrays(evaluations, CHANGE, remarks, CANNOT):
        variant = selection.name(key)
        if variant in found and found[variant].seed < key.seed:
            continue
        texts, originals, factors = (part.arrays.get(name, np.array([])) for name in (TEXT, ORIGINAL, FACTORS))
        fits = change.ndim == 2 and texts.ndim == 3 and change.shape == (texts.shape[1], len(factors))
        written = part.arrays.get(WRITTEN, originals)
        fits &= originals.shape == written.shape == texts.shape[:1] and 0 not in (*change.shape, *texts.shape)
        if fits:
            words = ([str(text) for text in each] for each in (originals, written))
            found[variant] = Moves(
                variant, key.seed, [str(name) for name in factors], np.nan_to_num(change), texts, *words
            )
    return list(found.values()), remarks
